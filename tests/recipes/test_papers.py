"""Recipes of MiniRL at the size of its paper have the paper's settings."""

import pytest

from steadyrl.engines.vllm.settings import VllmSettings
from steadyrl.objectives import MiniRL
from steadyrl.recipes import RECIPES
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.memory_plan import responses_of_step

REPLAY = {
    1: RoutingReplay.NONE,
    2: RoutingReplay.R2,
    4: RoutingReplay.R3,
    8: RoutingReplay.R3,
}
"""What the paper finds best for each number of mini-batches."""


@pytest.mark.parametrize("mini_batches", REPLAY)
def test_a_global_batch_is_a_multiple_of_1024_responses(mini_batches: int) -> None:
    config = RECIPES[f"minirl-30b-n{mini_batches}"]()

    assert responses_of_step(config) == 1024 * mini_batches
    assert config.algorithm.group_size == 16
    assert config.algorithm.objective == MiniRL(clip_low=0.2, clip_high=0.27, weight_cap=5.0)
    assert config.routing_replay is REPLAY[mini_batches]
    assert config.sampling.max_new_tokens == 32_768
    assert config.steps * mini_batches == 1024


def test_rollouts_are_fp8_and_training_is_bfloat16() -> None:
    config = RECIPES["minirl-30b-n4"]()

    assert isinstance(config.engine, VllmSettings)
    assert config.engine.options["quantization"] == "fp8"
    assert config.learner.dtype == "bfloat16"


def test_the_hybrid_has_the_settings_of_the_cold_start_study() -> None:
    config = RECIPES["minirl-next"]()

    assert responses_of_step(config) == 4096
    assert config.sampling.max_new_tokens == 65_536
    assert config.routing_replay is RoutingReplay.R2
