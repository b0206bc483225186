"""From a configuration to parts that fit together, or a sentence that says why they do not."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.reflection import (
    FrozenReflection,
    PolicyReflection,
    SampledReflection,
)
from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.local import LocalEngine, LocalEngineSettings
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.reference import ReferenceEngine, ReferenceEngineSettings
from steadyrl.environments.verifiable_math import VerifiableMathSettings
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.policies.float32_head import HeadDtype
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.numerics import Numerics
from steadyrl.policies.rounding import round_stochastically
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.records.completion import FinishReason
from steadyrl.records.routing import RoutingReplay
from steadyrl.rollout.seeds import derive_seed
from steadyrl.run.assembly import Assembly
from steadyrl.run.components import ROUNDING
from steadyrl.training.loop import train_step
from steadyrl.training.sampler import sample
from tests.closeness import assert_close
from tests.driving import generate
from tests.learners.small import largest_difference, weights_of
from tests.run.checkpoints import write_checkpoint, write_unhookable_moe
from tests.run.tiny import tiny_experiential_run, tiny_run

DENSE_RUN = {"routing_replay": RoutingReplay.NONE, "cold_start": None}


def pretrained(path: Path) -> Any:
    return Pretrained(path=str(path))


def test_stages_are_cold_start_and_then_reinforcement() -> None:
    cold, rl = Assembly.of(tiny_run()).stages

    assert (cold.name, cold.steps, cold.evaluate_every) == ("cold_start", 6, None)
    assert (rl.name, rl.steps, rl.evaluate_every) == ("rl", 6, 3)
    assert cold.optimizer.learning_rate == 0.1
    assert rl.optimizer.learning_rate == 0.01
    assert [stage.name for stage in Assembly.of(tiny_run(cold_start=None)).stages] == ["rl"]


ENGINES = {"local": LocalEngineSettings, "reference": ReferenceEngineSettings}


@pytest.mark.parametrize("engine", ["local", "reference"])
def test_a_turn_ends_where_the_template_closes_it_whatever_the_tokenizer_says(
    engine: str, tmp_path: Path
) -> None:
    path = write_checkpoint(tmp_path, eos_token="<|pad|>")
    numerics = ENGINES[engine](numerics=Numerics.FLOAT32)
    assembly = Assembly.of(tiny_run(model=pretrained(path), engine=numerics, **DENSE_RUN))
    prompt = torch.tensor([3, 20, 5])
    (answers,) = generate(
        assembly.engine,
        [Request(prompt_ids=prompt, num_completions=40, seed=0, sampling=Sampling())],
        Sampling(max_new_tokens=8),
    )

    (end,) = assembly.learner.policy.tokenizer("<|end|>", add_special_tokens=False)["input_ids"]
    stopped = {int(a.token_ids[-1]) for a in answers if a.finish_reason is FinishReason.STOP}
    assert end in stopped <= {0, end}
    assert not any(end in answer.token_ids[:-1] for answer in answers)
    assert assembly.notes == (
        "Turns also end at '<|end|>', by which the chat template closes them. The end tokens of "
        "tokenizer and generation config are different: '<|pad|>'.",
    )


def test_nothing_is_noted_of_a_tokenizer_that_ends_turns_as_its_template_does() -> None:
    assert Assembly.of(tiny_run()).notes == ()


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    tokenizer = character_tokenizer()
    tokenizer.add_tokens(["<tool_call>"])
    tokenizer.save_pretrained(path)
    rows = len(tokenizer) - 1
    with pytest.raises(UserError, match=rf"'<tool_call>' the id {rows}, but .* has {rows} rows"):
        Assembly.of(tiny_run(model=pretrained(path), **DENSE_RUN))


def test_masters_of_a_bfloat16_learner_are_the_weights_before_they_were_rounded() -> None:
    exact = dict(Assembly.of(tiny_run()).learner.policy.model.named_parameters())
    learner = Assembly.of(
        tiny_run(learner=LocalLearnerSettings(dtype="bfloat16", rounding="nearest"))
    ).learner

    assert {name: m.dtype for name, m in learner.optimizer.masters.items()} == dict.fromkeys(
        exact, torch.float32
    )
    assert all(torch.equal(learner.optimizer.masters[name], exact[name]) for name in exact)
    for name, weight in learner.policy.model.named_parameters():
        assert torch.equal(weight, exact[name].bfloat16())


@pytest.mark.parametrize("learner", ["model", "float32"])
@pytest.mark.parametrize("engine", ["model", "float32"])
def test_learner_and_engine_have_the_heads_that_their_settings_name(
    learner: HeadDtype, engine: HeadDtype
) -> None:
    settings = LocalLearnerSettings(dtype="bfloat16", rounding="nearest", head_dtype=learner)
    config = tiny_run(
        learner=settings, engine=ReferenceEngineSettings(head_dtype=engine), **DENSE_RUN
    )
    assembly = Assembly.of(config)
    drawn = Assembly.of(tiny_run(**DENSE_RUN)).learner.policy.model.lm_head.weight
    types = {"model": torch.bfloat16, "float32": torch.float32}

    head = assembly.learner.policy.model.lm_head.weight
    assert assembly.learner.policy.head_dtype == learner
    assert torch.equal(head, drawn.to(types[learner]))
    (completions,) = generate(
        assembly.engine,
        [
            Request(
                prompt_ids=torch.tensor([3, 20, 5]), num_completions=1, seed=0, sampling=Sampling()
            )
        ],
        Sampling(max_new_tokens=1),
    )
    assert len(completions[0].logprobs) == 1
    assert assembly.engine._model.head.dtype == engine  # type: ignore[attr-defined]


def test_stochastic_rounding_starts_at_once_and_with_the_seed_of_the_run() -> None:
    def assembled(seed: int) -> LocalLearner:
        settings = LocalLearnerSettings(dtype="bfloat16")
        return Assembly.of(tiny_run(seed=seed, learner=settings)).learner

    learner = assembled(1)
    name, weight = next(iter(learner.policy.model.named_parameters()))
    master, seed = learner.optimizer.masters[name], derive_seed(1, ROUNDING)
    assert torch.equal(weight, round_stochastically(master, name=name, seed=seed))
    assert not torch.equal(weight, round_stochastically(master, name=name, seed=seed + 1))


def test_trainer_scores_at_the_temperature_that_the_engine_samples_at() -> None:
    cold, rl = Assembly.of(tiny_run(sampling=Sampling(temperature=0.7))).stages

    assert (cold.temperature, rl.temperature) == (1.0, 0.7)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    def weights(seed: int) -> torch.Tensor:
        model = Assembly.of(tiny_run(seed=seed)).learner.policy.model
        return torch.cat([weight.flatten() for weight in model.parameters()]).detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_threads_are_those_asked_for() -> None:
    threads = torch.get_num_threads()
    try:
        Assembly.of(tiny_run(threads=2))
        assert torch.get_num_threads() == 2
        Assembly.of(tiny_run(threads=None))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_runs_of_any_seed_reinforce_the_cold_start_of_one() -> None:
    config = tiny_run()
    assert config.cold_start is not None
    shared = {"cold_start": config.cold_start.model_copy(update={"seed": 1})}
    one, other = (Assembly.of(tiny_run(seed=seed, **shared)) for seed in (1, 2))

    assert largest_difference(weights_of(one.learner), weights_of(other.learner)) == 0
    assert first_step(one)["loss"] == first_step(other)["loss"]  # that of the cold start
    plans = [assembly.stages[1].algorithm.plan(0).seed for assembly in (one, other)]
    assert plans[0] != plans[1]


def test_engine_is_the_one_asked_for_and_holds_the_weights() -> None:
    prompt = Request(
        prompt_ids=torch.tensor([6, 7, 8]), num_completions=2, seed=1, sampling=Sampling()
    )
    answers = {}
    for name, kind in (("local", LocalEngine), ("reference", ReferenceEngine)):
        settings = ENGINES[name](numerics=Numerics.FLOAT32)
        assembly = Assembly.of(tiny_run(engine=settings))
        assert isinstance(assembly.engine, kind)
        ((one, two),) = generate(assembly.engine, [prompt], Sampling(max_new_tokens=6))
        answers[name] = (one.token_ids.tolist(), two.token_ids.tolist())
        tokens = torch.cat([one.prompt_ids, one.token_ids])[None]
        mask = torch.ones_like(tokens, dtype=torch.bool)
        own = assembly.learner.policy.score(tokens, mask, mask).logprobs[0, 3:].detach()
        assert_close(one.logprobs, own)
        assert one.routing is not None
    assert answers["local"] == answers["reference"]


def test_replay_of_a_dense_checkpoint_is_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "dense")
    config = tiny_run(model=pretrained(path))

    with pytest.raises(
        UserError,
        match=r"routing_replay is 'r3', but Qwen3ForCausalLM is dense and has no routing\. "
        r"Set routing_replay to 'none'\.",
    ):
        Assembly.of(config)


def test_a_dense_checkpoint_trains_without_replay(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "dense")
    assembly = Assembly.of(tiny_run(model=pretrained(path), routing_replay=RoutingReplay.NONE))

    metrics = first_step(assembly)
    assert metrics["loss"] > 0
    assert assembly.learner.policy.hook is None


def first_step(assembly: Assembly) -> dict[str, Any]:
    """The metrics of the first step of each stage, joined."""
    metrics: dict[str, Any] = {}
    for stage in assembly.stages:
        assembly.learner.begin_stage(stage.optimizer, stage.temperature, fresh=True)
        rollout = drive(sample(stage.algorithm, 0, assembly.engine))
        step = train_step(stage, 0, rollout, assembly.learner, assembly.engine)
        metrics = drive(step)[0] | metrics
    return metrics


def test_unknown_routers_are_warned_of_and_train_without_routing_metrics(tmp_path: Path) -> None:
    path = write_unhookable_moe(tmp_path / "jetmoe")
    engine = LocalEngineSettings(numerics=Numerics.BFLOAT16)
    config = tiny_run(model=pretrained(path), routing_replay=RoutingReplay.NONE, engine=engine)
    with pytest.warns(
        UserWarning, match=r"No routing metrics in this run\. JetMoeForCausalLM routes"
    ):
        assembly = Assembly.of(config)
    before = weights_of(assembly.learner)
    metrics = first_step(assembly)

    assert largest_difference(weights_of(assembly.learner), before) > 0
    assert metrics["mismatch_kl_k3"] > 0
    assert not any(name.startswith("routing") for name in metrics)


def test_replay_of_unknown_routers_is_refused(tmp_path: Path) -> None:
    path = write_unhookable_moe(tmp_path / "jetmoe")

    with warnings.catch_warnings(), pytest.raises(UserError, match="Use routing_replay none"):
        Assembly.of(tiny_run(model=pretrained(path)))


def test_a_missing_checkpoint_folder_is_refused() -> None:
    with pytest.raises(UserError, match=r"No checkpoint folder at './nowhere'\. Give an existing"):
        Assembly.of(tiny_run(model=Pretrained(path="./nowhere")))


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_that_is_missing_is_refused() -> None:
    with pytest.raises(UserError, match=r"learner.device is 'cuda', but .* Use 'auto' or 'cpu'\."):
        Assembly.of(tiny_run(learner=LocalLearnerSettings(device="cuda")))
    assert (
        Assembly.of(tiny_run(learner=LocalLearnerSettings(device="cpu"))).learner.policy.device.type
        == "cpu"
    )


def test_a_teacher_for_another_environment_is_refused(tmp_path: Path) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(f'{{"problem": "{n}+0", "answer": "{n}"}}\n' for n in range(300)))
    config = tiny_run(environment=VerifiableMathSettings(path=str(problems)))

    with pytest.raises(UserError, match="arithmetic teacher cannot demonstrate on VerifiableMath"):
        Assembly.of(config)


@pytest.mark.parametrize("kind", [PolicyReflection, FrozenReflection])
def test_reflections_that_never_have_room_are_refused(kind: type[SampledReflection]) -> None:
    def settings(tokens: int) -> ExperientialSettings:
        reflection = kind(sampling=Sampling(temperature=0.5, max_new_tokens=tokens))
        return ExperientialSettings(reflection=reflection)

    with pytest.raises(
        UserError, match=r"max_new_tokens is 128, .* 128 tokens in this model, which leaves no"
    ):
        Assembly.of(tiny_experiential_run(algorithm=settings(128)))
    assert Assembly.of(tiny_experiential_run(algorithm=settings(127))).stages
