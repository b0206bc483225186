"""Plans of memory, and the refusal of runs that do not fit."""

from pathlib import Path
from typing import Any

import pytest

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.base.errors import UserError
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.engines.vllm.settings import VllmSettings
from steadyrl.environments.arithmetic import ArithmeticSettings
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.objectives import ReferenceKL, Reinforce
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.lora import Adapter, LoraSettings
from steadyrl.policies.model_settings import SmallDense, SmallMoE
from steadyrl.policies.model_size import ModelSize
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import RunConfig
from steadyrl.run.execution import start_run
from steadyrl.run.memory_check import require_memory, require_memory_to_measure
from steadyrl.run.memory_plan import MemoryPlan, RunSizes, held_to_measure, plan_memory
from tests.run.tiny import tiny_run

DENSE = SmallDense()
TOKENIZER = load_tokenizer(DENSE)
COUNT = ModelSize.of(DENSE, TOKENIZER).parameters


def run(**changes: Any) -> RunConfig:
    own = {"model": DENSE, "cold_start": None, "routing_replay": RoutingReplay.NONE}
    return tiny_run(**{**own, **changes})


def plan(**changes: Any) -> MemoryPlan:
    config = run(**changes)
    return plan_memory(config, sizes(config, prompt=10))


def sizes(config: RunConfig, **options: int) -> RunSizes:
    return RunSizes.of(config, load_tokenizer(config.model), **options)


def test_float32_weights_are_their_own_masters() -> None:
    held = plan(engine=LocalEngineSettings(numerics=Numerics.BFLOAT16)).held

    assert held == {
        "weights": 4 * COUNT,
        "moments": 8 * COUNT,
        "gradients": 4 * COUNT,
        "engine's weights": 2 * COUNT,
    }


def test_bfloat16_weights_have_masters_and_gradients_of_both_kinds() -> None:
    learner = LocalLearnerSettings(dtype="bfloat16")
    held = plan(learner=learner, engine=LocalEngineSettings(numerics=Numerics.FLOAT32)).held

    assert held == {
        "weights": 2 * COUNT,
        "float32 masters": 4 * COUNT,
        "moments": 8 * COUNT,
        "gradients": 6 * COUNT,
        "engine's weights": 4 * COUNT,
    }


def test_ranks_in_one_memory_share_the_weights_and_hold_passes_of_their_own() -> None:
    engine = LocalEngineSettings(numerics=Numerics.BFLOAT16)
    found = plan(learner=FsdpLearnerSettings(ranks=3), engine=engine)
    alone = plan(learner=LocalLearnerSettings(), engine=engine)

    assert found.held == {
        "weights": 4 * COUNT,
        "moments": 8 * COUNT,
        "gradients": 4 * COUNT,
        "gathered layers": 3 * (2 * 4 * COUNT // DENSE.layers),
        "initial weights": 4 * COUNT,
        "engine's weights": 2 * COUNT,
    }
    assert found.update["activations"] == 3 * alone.update["activations"]
    copying = plan(learner=FsdpLearnerSettings(ranks=3, background_saves=True), engine=engine)
    assert copying.held == found.held | {"copies for a checkpoint": 12 * COUNT}


def test_an_adapter_has_moments_and_gradients_and_its_base_has_none() -> None:
    lora = LoraSettings(rank=4)
    config = run(learner=LocalLearnerSettings(dtype="bfloat16", lora=lora))
    found = sizes(config, prompt=10)
    adapter = Adapter(load_model(DENSE, tokenizer=load_tokenizer(DENSE), seed=0), lora, seed=0)
    values = sum(weight.numel() for weight in adapter.parameters().values())

    assert found.model.adapter == values
    assert plan_memory(config, found).held == {
        "weights": 2 * COUNT,
        "adapter": 4 * values,
        "moments": 8 * values,
        "gradients": 4 * values,
        "merged weights": 4 * COUNT,
        "engine's weights": 2 * COUNT,
    }


def test_experts_of_an_adapter_are_counted() -> None:
    model = SmallMoE(layers=1)
    lora = LoraSettings(rank=4, experts=True)
    size = ModelSize.of(model, load_tokenizer(model), lora)
    adapter = Adapter(load_model(model, tokenizer=load_tokenizer(model), seed=0), lora, seed=0)

    assert size.adapter == sum(weight.numel() for weight in adapter.parameters().values())


def test_fp8_is_held_in_the_learners_type_and_noise_costs_a_second_engine() -> None:
    noisy = LocalEngineSettings(numerics=Numerics.FP8, weight_noise=0.1)

    assert plan(engine=noisy).held["engine's weights"] == 2 * 4 * COUNT


def test_a_server_holds_its_weights_and_its_cache_elsewhere() -> None:
    there = plan(engine=VllmSettings(url="http://127.0.0.1:1"))

    assert "engine's weights" not in there.held
    assert there.rollout == {}


class ReadsMany(Reinforce):
    """REINFORCE that reads the whole vocabulary."""

    name: str = ""
    reads_candidates = 10**6


def test_candidates_of_a_rollout_are_planned_for() -> None:
    objective = {"objective": ReadsMany(), "prompts": 3, "group_size": 2, "mini_batches": 2}
    config = run(algorithm=PolicyGradientSettings(**objective))
    vocabulary = ModelSize.of(DENSE, TOKENIZER).vocabulary
    tokens = 12 * config.sampling.max_new_tokens
    planned = plan_memory(config, sizes(config, prompt=10)).update
    assert planned["candidates"] == tokens * vocabulary * 12
    assert "candidates" not in plan().update


def test_a_reference_policy_is_held() -> None:
    algorithm = PolicyGradientSettings(reference_kl=ReferenceKL(coefficient=0.1))

    assert plan(algorithm=algorithm).held["reference policy"] == 4 * COUNT


def test_keys_and_values_are_those_of_the_sequences_that_run() -> None:
    # 10 tokens of the prompt and 22 of the answer; 768 bytes a position in float32.
    engine = LocalEngineSettings(numerics=Numerics.FLOAT32, max_running=6)
    planned = plan(engine=engine, sampling=Sampling(max_new_tokens=22))

    assert planned.rollout["keys and values"] == 6 * 32 * 768
    assert planned.least_rollout == 32 * 768
    assert planned.peak == sum(planned.held.values()) + sum(planned.update.values())


def test_a_row_has_the_answers_of_all_turns_of_an_episode() -> None:
    # Three operands more than one: three turns of 22 tokens after 10 that are given.
    engine = LocalEngineSettings(numerics=Numerics.FLOAT32)
    settings = {"engine": engine, "sampling": Sampling(max_new_tokens=22)}
    one = run(**settings, environment=ArithmeticSettings(operands=4))
    three = run(**settings, environment=ArithmeticSettings(operands=4, turns="multi"))
    bounded = three.model_copy(
        update={"algorithm": three.algorithm.model_copy(update={"max_turns": 2})}
    )
    short = three.model_copy(update={"model": SmallDense(max_positions=40)})

    lengths = [sizes(config, prompt=10).length for config in (one, three, bounded, short)]
    assert lengths == [32, 76, 54, 40]
    planned = [plan_memory(config, sizes(config, prompt=10)) for config in (one, three)]
    assert planned[1].least_rollout == 76 * 768 > planned[0].least_rollout
    assert planned[1].update["logits"] > planned[0].update["logits"]


def test_activations_grow_with_the_micro_batch_and_shrink_by_checkpointing() -> None:
    def activations(**changes: Any) -> int:
        algorithm = PolicyGradientSettings(prompts=64)
        return plan(algorithm=algorithm, learner=LocalLearnerSettings(**changes)).update[
            "activations"
        ]

    whole = activations(micro_batch_tokens=4096)

    assert activations(micro_batch_tokens=2048) == pytest.approx(whole / 2, rel=1e-3)
    assert activations(micro_batch_tokens=4096, activation_checkpointing=True) < whole / 2


def test_a_run_that_fits_goes_on() -> None:
    config = run()
    needed = plan_memory(config, sizes(config)).least

    require_memory(config, TOKENIZER, needed)
    with pytest.raises(UserError, match=r"Training 0\.000124 billion parameters needs about"):
        require_memory(config, TOKENIZER, needed - 1)


def test_a_run_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    huge = SmallDense(width=1 << 18, mlp_width=1 << 18)  # never built with memory

    with pytest.raises(
        UserError, match=r"Training 619 billion parameters needs about .* GB \(.* for moments"
    ) as no:
        start_run(run(model=huge), tmp_path / "run")

    assert "GB are free" in str(no.value)
    assert str(no.value).endswith("choose a smaller model, or a machine with more memory.")
    assert not (tmp_path / "run").exists()


def test_the_first_setting_that_makes_it_fit_is_named() -> None:
    config = run(algorithm=PolicyGradientSettings(prompts=64, group_size=64))
    learner = config.learner.model_copy(update={"activation_checkpointing": True})
    smaller = config.model_copy(update={"learner": learner})
    needed = plan_memory(smaller, sizes(config)).least

    with pytest.raises(UserError, match=r"Set learner.activation_checkpointing to true\.$"):
        require_memory(config, TOKENIZER, needed)


def test_a_measurement_holds_moments_and_masters_but_no_gradients() -> None:
    config = run(learner=LocalLearnerSettings(dtype="bfloat16"))
    size = sizes(config).model
    held = {"weights": 2 * COUNT, "float32 masters": 4 * COUNT, "engine's weights": 2 * COUNT}

    assert held_to_measure(config, size, moments=False) == held
    assert held_to_measure(config, size, moments=True) == held | {"moments": 8 * COUNT}


def test_a_measurement_needs_less_than_the_run() -> None:
    config = run()
    needed = sum(held_to_measure(config, sizes(config).model, moments=False).values())

    require_memory_to_measure(config, TOKENIZER, moments=False, available=needed)
    with pytest.raises(UserError, match=r"Training 0\.000124 billion"):
        require_memory(config, TOKENIZER, needed)
    with pytest.raises(UserError, match=r"^Measuring 0\.000124 billion parameters .* for weights"):
        require_memory_to_measure(config, TOKENIZER, moments=False, available=needed - 1)
    with pytest.raises(UserError, match=r"for moments.* choose a smaller model"):
        require_memory_to_measure(config, TOKENIZER, moments=True, available=needed)
