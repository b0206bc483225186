import pytest
from tests.run.tiny import tiny_run

from steadyrl.records.errors import UserError
from steadyrl.report.diagnosis_settings import RunSettings, run_settings
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


def test_a_silent_configuration_leaves_the_defaults() -> None:
    assert run_settings("seed: 1\n") == RunSettings(clips=False)


@pytest.mark.parametrize(
    ("objective", "clips"),
    [
        ("{name: minirl, clip_low: 0.2, clip_high: 0.27}", True),
        ("{name: minirl, clip_low: .inf, clip_high: .inf}", False),
        ("{name: dppo, threshold: 0.15}", True),
        ("{name: reinforce}", False),
    ],
)
def test_an_objective_clips_where_a_bound_of_it_is_finite(objective: str, clips: bool) -> None:
    assert run_settings(f"policy_gradient: {{objective: {objective}}}").clips is clips


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("a: [", r"is not YAML: .*Restore"), ("- 1\n", r"settings by name, got list\. Restore")],
)
def test_a_configuration_that_cannot_be_read_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        run_settings(text)
