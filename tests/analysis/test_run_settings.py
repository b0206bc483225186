import math
from typing import Any

import pytest
import yaml
from tests.run.tiny import tiny_experiential_run, tiny_run

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.run.config import RunConfig, to_yaml


def settings_of(config: RunConfig) -> RunSettings:
    """The settings that a diagnosis reads in the file of a configuration."""
    return RunSettings.of(yaml.safe_load(to_yaml(config)))


def test_settings_are_those_of_the_run() -> None:
    assert settings_of(tiny_run()) == RunSettings(
        mini_batches=2,
        learning_rate=1e-2,
        routing_replay="r3",
        numerics="fp8",
        clips=True,
        every_token_measured=True,
    )


def test_settings_of_experiential_rl_are_those_under_its_own_name() -> None:
    config = tiny_experiential_run()
    assert isinstance(config.algorithm, ExperientialSettings)
    found = settings_of(config)
    assert (found.mini_batches, found.clips) == (2, True)
    assert found.fewer_steps == "lower algorithm.mini_batches (now 2)"
    sequential = config.algorithm.model_copy(update={"updates": "sequential", "mini_batches": 1})
    found = settings_of(config.model_copy(update={"algorithm": sequential}))
    assert found.mini_batches == 3
    assert found.fewer_steps == "set algorithm.updates to 'mixed'"


def test_a_silent_configuration_leaves_the_defaults() -> None:
    assert RunSettings.of({"seed": 1}) == RunSettings(clips=False)


@pytest.mark.parametrize(
    ("name", "bounds", "clips"),
    [
        ("minirl", {"clip_low": 0.2, "clip_high": 0.27}, True),
        ("minirl", {"clip_low": math.inf, "clip_high": math.inf}, False),
        ("dppo", {"threshold": 0.15}, True),
        ("reinforce", {}, False),
        ("mine:Own", {"clip_low": None, "clip_high": "wide"}, False),
        ("mine:Own", {"clip_low": 1}, True),
    ],
)
def test_an_objective_clips_where_a_bound_of_it_is_finite(
    name: str, bounds: dict[str, Any], clips: bool
) -> None:
    found = RunSettings.of({"algorithm": {"objective": {"name": name, **bounds}}})
    assert (found.objective, found.clips) == (name, clips)
