import pytest
from tests.run.tiny import tiny_experiential_run, tiny_run

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.analysis.run_settings import RunSettings, run_settings
from steadyrl.base.errors import UserError
from steadyrl.run.config import to_yaml


def test_settings_are_those_of_the_run() -> None:
    assert run_settings(to_yaml(tiny_run())) == RunSettings(
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
    found = run_settings(to_yaml(config))
    assert (found.mini_batches, found.clips) == (2, True)
    assert found.fewer_steps == "lower algorithm.mini_batches (now 2)"
    sequential = config.algorithm.model_copy(update={"updates": "sequential", "mini_batches": 1})
    found = run_settings(to_yaml(config.model_copy(update={"algorithm": sequential})))
    assert found.mini_batches == 3
    assert found.fewer_steps == "set algorithm.updates to 'mixed'"


def test_a_silent_configuration_leaves_the_defaults() -> None:
    assert run_settings("seed: 1\n") == RunSettings(clips=False)


@pytest.mark.parametrize(
    ("name", "bounds", "clips"),
    [
        ("minirl", "clip_low: 0.2, clip_high: 0.27", True),
        ("minirl", "clip_low: .inf, clip_high: .inf", False),
        ("dppo", "threshold: 0.15", True),
        ("reinforce", "", False),
        ("'mine:Own'", "clip_low: null, clip_high: wide", False),
        ("'mine:Own'", "clip_low: 1", True),
    ],
)
def test_an_objective_clips_where_a_bound_of_it_is_finite(
    name: str, bounds: str, clips: bool
) -> None:
    found = run_settings(f"algorithm: {{objective: {{name: {name}, {bounds}}}}}")
    assert (found.objective, found.clips) == (name.strip("'"), clips)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("a: [", r"is not YAML: .*Restore"), ("- 1\n", r"settings by name, got list\. Restore")],
)
def test_a_configuration_that_cannot_be_read_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        run_settings(text)
