"""Plans of whole runs: shapes from configurations, layouts, refusals."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoConfig, Qwen3MoeConfig

from steadyrl.base.errors import UserError
from steadyrl.cli.plan import plan_command
from steadyrl.planning.node_memory import main_memory
from steadyrl.planning.plan import fitting_plans, plan_run, shape_of
from steadyrl.planning.reading import known_configs, read_shape
from steadyrl.planning.settings import PlanSettings
from steadyrl.policies.loading import model_with
from steadyrl.policies.model_settings import Pretrained, SmallMoE
from steadyrl.policies.model_size import pass_memory_with
from steadyrl.recipes import RECIPES
from steadyrl.run.config import RunConfig

BILLIONS = {
    "Qwen3-30B-A3B": 30.5,
    "Qwen3-235B-A22B": 235.1,
    "Qwen3-4B": 4.02,
    "Qwen3-0.6B": 0.596,
    "Qwen3-32B": 32.8,
    "Olmo-3-7B": 7.30,
    "Llama-3.1-8B": 8.03,
    "Qwen3-Next-80B-A3B": 79.7,
}
"""Parameters that the models' cards state."""

TINY = Qwen3MoeConfig(
    vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, num_experts=4, num_experts_per_tok=2,
    moe_intermediate_size=16, intermediate_size=16, tie_word_embeddings=False,
)  # fmt: skip


def test_known_configurations_have_the_published_numbers_of_parameters() -> None:
    found = {}
    for name, numbers in known_configs().items():
        numbers.pop("repositories")
        with torch.device("meta"):
            model = model_with(AutoConfig.for_model(**numbers), torch.bfloat16)
        found[name] = model.num_parameters() / 1e9

    assert found == pytest.approx(BILLIONS, rel=0.005)


def test_the_shape_of_a_small_model_counts_what_its_configuration_says() -> None:
    shape = read_shape(TINY, "tiny")

    assert shape.expert_weights == 4 * 4 * 3 * 32 * 16  # layers, experts, matrices of 32 x 16
    assert shape.head_weights == 64 * 32
    assert shape.cached == 4 * 2 * 2 * 8  # layers, keys and values, heads of 8
    assert shape.attention_width == 4 * 4 * 8
    attention, norms, experts = 4, 4, 4 * 3
    assert (
        shape.tensors == 4 * (attention + norms + 1 + experts) + 3
    )  # router; embedding, norm, head


def test_activations_of_a_layer_are_those_of_the_whole_model_by_its_layers() -> None:
    whole = pass_memory_with(TINY, routed=True, dtype=torch.bfloat16, length=512)

    assert whole is not None
    assert 4 * read_shape(TINY, "tiny").layer_activations == pytest.approx(
        whole.activations, rel=0.05
    )


def test_a_model_that_is_not_here_is_refused_without_a_download() -> None:
    with pytest.raises(UserError, match="downloads nothing"):
        shape_of(Pretrained(path="someone/unknown-model"))


def test_a_folder_with_a_configuration_suffices(tmp_path: Path) -> None:
    TINY.save_pretrained(tmp_path)

    assert shape_of(Pretrained(path=str(tmp_path))).parameters > 0


def demo(**changes: object) -> RunConfig:
    return RECIPES["demo"]().model_copy(update=changes)


def test_each_device_of_the_learner_holds_its_shard_by_the_rules_of_one_machine() -> None:
    plan = plan_run(demo(), PlanSettings(gpus="4xH100", engine_gpus=2, tensor_parallel=1))
    learner = plan.devices["learner"]
    count = plan.shape.parameters

    assert plan.layout.learner_devices == 2
    assert learner.held["weights"] == 4 * count // 2
    assert learner.held["moments"] == 8 * count // 2
    assert plan.devices["engine"].held == {"engine's weights": count * 4.0}  # FP8 is emulated


def test_main_memory_of_a_machine_holds_copies_of_the_shards_that_are_on_it() -> None:
    plan = plan_run(demo(), PlanSettings(gpus="32xH100", engine_gpus=16, tensor_parallel=1))
    count, work = plan.shape.parameters, plan.work
    assert plan.layout.learner_devices == 16

    assert main_memory(plan) == {
        "initial weights": 4 * count,
        "weights of the last sync": 4 * count,
        "routes": pytest.approx(work.sampled * plan.shape.layers * plan.shape.experts_per_token),
        "copies for a checkpoint": 12 * count * 8 / 16,  # 8 of the 16 ranks
    }


def test_the_fastest_layout_that_fits_is_chosen() -> None:
    auto = plan_run(demo(), PlanSettings(gpus="8xH100"))
    given = plan_run(demo(), PlanSettings(gpus="8xH100", engine_gpus=1, tensor_parallel=1))

    assert auto.fits
    assert auto.time.total <= given.time.total


def test_engines_share_the_heads_of_attention_evenly() -> None:
    shape = shape_of(demo().model)
    smollm, qwen = replace(shape, heads=9, kv_heads=3), replace(shape, heads=28, kv_heads=4)
    assert [devices for devices in range(1, 9) if smollm.divides_among(devices)] == [1, 3]
    # 7 devices share the 28 heads, but not the 4 for keys and values.
    assert [devices for devices in range(1, 9) if qwen.divides_among(devices)] == [1, 2, 4]
    plans = fitting_plans(demo(), PlanSettings(gpus="8xH100"))
    assert {plan.layout.tensor_parallel for plan in plans} <= {1, 2, 4}


def test_engines_apart_overlap_only_with_rollouts_that_are_sampled_ahead() -> None:
    settings = PlanSettings(gpus="2xH100", engine_gpus=1)
    ahead = demo().engine.model_copy(update={"max_staleness": 1})
    one_by_one, overlapped = (
        plan_run(config, settings).time for config in (demo(), demo(engine=ahead))
    )

    assert one_by_one.total == pytest.approx(
        one_by_one.rollout + one_by_one.update + one_by_one.sync
    )
    assert overlapped.total == pytest.approx(
        max(overlapped.rollout, overlapped.update) + overlapped.sync
    )


def test_a_run_that_does_not_fit_is_refused_with_the_smallest_change() -> None:
    config = RECIPES["minirl-30b-n1"]()
    with pytest.raises(UserError, match=r"does not fit on 8xH100.*Use --gpus 16xH100"):
        plan_run(config, PlanSettings(gpus="8xH100"))

    assert plan_run(config, PlanSettings(gpus="16xH100")).fits


def test_checkpointing_is_named_where_it_suffices() -> None:
    config = RECIPES["minirl-30b-n1"]()
    saving = config.learner.model_copy(update={"activation_checkpointing": False})
    with pytest.raises(UserError, match=r"Set learner\.activation_checkpointing to true\."):
        plan_run(config.model_copy(update={"learner": saving}), PlanSettings(gpus="64xH100"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine_gpus": 4}, "multiple"),
        ({"tensor_parallel": 16}, "at most the 4 devices"),
        (
            {"tensor_parallel": 3},
            "4 attention heads and 2 for keys.* cannot share evenly. Use 1, 2",
        ),
        ({"response_tokens": 100}, "at most 16 tokens"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_run(demo(), PlanSettings(gpus="4xH100", **changes))


def test_experiential_rl_samples_and_trains_on_all_parts_of_an_episode() -> None:
    config = RECIPES["erl-frozenlake"]()
    plan = plan_run(config, PlanSettings(gpus="8xH200", response_tokens=1000))

    assert plan.work.sequences == 64 * 4
    assert plan.work.lengths.mean == 1000 + 2048 / 2 + 1000
    assert len(plan.work.rows) == 4  # first attempt, reflection, second attempt, internalization
    assert plan.work.reference


def test_the_command_prints_json_and_tables() -> None:
    arguments = ["demo", "--gpus", "2xH100", "--response-tokens", "12"]
    texts = []
    for extra in ([], ["--json"]):
        output = io.StringIO()
        plan_command([*arguments, *extra], Console(file=output, width=120))
        texts.append(output.getvalue())

    values = json.loads(texts[1])
    assert values["seconds"]["step"] > 0
    assert values["layout"] in texts[0]
    assert values["model"] == "small_moe" == SmallMoE().name
