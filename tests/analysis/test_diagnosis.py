"""The status of a run, since when, and how it is told."""

import json

import pytest
from tests.analysis.diagnosed_runs import SOUND, diagnosis, sound, stage

from steadyrl.analysis.causes import CauseName
from steadyrl.analysis.diagnosis import READ, Status, diagnose
from steadyrl.analysis.metric_texts import METRIC_TEXTS
from steadyrl.analysis.series import stages_of
from steadyrl.base.errors import UserError

FALLEN = [0.30, 0.32, 0.31, 0.33, 0.30, 0.02, 0.01, 0.0, 0.0, 0.01, 0.0, 0.01, 0.0, 0.0]


def test_a_sound_run_is_healthy_and_has_no_cause() -> None:
    found = diagnosis(sound())

    assert (found.status, found.step, found.cause, found.evidence) == (
        Status.HEALTHY,
        None,
        None,
        (),
    )
    assert found.missing == ()
    assert found.to_text("a") == "a: healthy, 8 steps read"


def test_a_sound_run_is_healthy_once_there_are_steps_to_tell() -> None:
    for steps in range(1, 9):
        found = diagnosis(stage(**{name: values[:steps] for name, values in SOUND.items()}))
        assert found.status is (Status.HEALTHY if steps >= 6 else Status.TOO_SHORT)
        assert not found.is_alarm
    few = diagnosis(stage(**{name: values[:2] for name, values in SOUND.items()}))
    assert few.to_text("a") == "a: too few steps to tell, 2 steps read"


@pytest.mark.parametrize(("steps", "is_alarm"), [(2, False), (9, False), (10, True)])
def test_a_run_whose_answers_all_earn_the_same_has_learned_nothing(
    steps: int, is_alarm: bool
) -> None:
    found = diagnosis(stage(reward=[0.0] * steps, no_signal_fraction=[1.0] * steps))

    assert (found.status, found.is_alarm) == (Status.NOTHING_LEARNED, is_alarm)
    assert found.to_text("a").startswith(f"a: nothing learned: all rewards 0, {steps} steps read")
    assert "change: Look at the completions" in found.to_text("a")


@pytest.mark.parametrize(
    "metrics",
    [
        {"reward": [0.4] * 8},
        {"reward": [0.0] * 7 + [0.1]},
        {"reward": [0.0] * 8, "no_signal_fraction": [1.0] * 7 + [0.5]},
    ],
)
def test_rewards_that_may_differ_are_not_called_the_same(metrics: dict[str, list[float]]) -> None:
    assert diagnosis(stage(**metrics)).status is Status.HEALTHY


def test_a_run_that_lost_its_reward_has_collapsed() -> None:
    found = diagnosis(stage(reward=FALLEN), learning_rate=0.006)

    assert (found.status, found.step) == (Status.COLLAPSED, 7)
    assert found.cause is not None
    assert found.cause.name is CauseName.LEARNING_RATE


def test_a_signal_outside_its_range_is_a_warning() -> None:
    few = [1.0, 1.0, 1.0, 0.4, 0.4, 0.4, 0.4, 0.4]
    found = diagnosis(sound(ess=few, staleness_kl_k3=[0.1] * 8))

    assert (found.status, found.step) == (Status.ABOUT_TO_COLLAPSE, 5)
    assert found.cause is not None
    assert found.cause.name is CauseName.STALENESS


def test_a_signal_that_came_back_is_evidence_of_a_healthy_run() -> None:
    found = diagnosis(sound(ess=[1.0, 1.0, 0.3, 0.3, 0.3, 1.0, 1.0, 1.0]))

    assert found.status is Status.HEALTHY
    assert "It has come back since." in found.to_text("a")


def test_a_fault_explains_the_collapse_that_follows() -> None:
    found = diagnosis(
        stage(
            reward=FALLEN,
            surprisal_gap=[-0.2] * 14,
            surprisal_gap_z=[-30.0] * 14,
            entropy=[0.4] * 14,
        )
    )

    assert (found.status, found.step) == (Status.COLLAPSED, 7)
    assert found.cause is not None
    assert found.cause.name is CauseName.SAMPLING
    assert [evidence.metric for evidence in found.evidence] == ["surprisal_gap_z", "reward"]


def test_a_fault_alone_is_told_since_its_first_step() -> None:
    text = diagnosis(sound(routing_disagreement=[0.9] * 8)).to_text("a")

    assert text.splitlines()[:2] == [
        "a: fault since step 1, 8 steps read",
        "cause: routes of other tokens",
    ]
    assert "change: Check how the engine's routes are aligned" in text


def test_rows_of_any_trainer_can_be_diagnosed() -> None:
    rows = [{"step": step, "reward": reward} for step, reward in enumerate(FALLEN, start=1)]
    found = diagnose(stages_of(rows))

    assert (found.status, found.step) == (Status.COLLAPSED, 7)
    assert "ess" in found.missing


def test_what_was_not_recorded_is_said() -> None:
    text = diagnosis(stage(reward=[0.1, 0.2], ess=[1.0, 1.0])).to_text("a")

    assert "not recorded, so not considered: Entropy, Staleness KL (k3), Mismatch KL" in text


def test_values_are_json() -> None:
    values = json.loads(json.dumps(diagnosis(stage(reward=FALLEN)).to_values()))

    assert values["status"] == "collapsed"
    assert values["evidence"][0]["metric"] == "reward"
    assert set(values["cause"]) == {"name", "reason", "change"}


def test_the_reinforcement_stage_is_diagnosed_whatever_came_before() -> None:
    cold_start = stage("cold_start", reward=FALLEN)

    assert diagnosis(cold_start, sound()).status is Status.HEALTHY


def test_a_run_without_reinforcement_is_refused() -> None:
    with pytest.raises(UserError, match=r"The run has no reinforcement step yet\. Let it run"):
        diagnosis(stage("cold_start", loss=[1.0]))


def test_what_a_diagnosis_rests_on_is_documented() -> None:
    assert set(READ) <= set(METRIC_TEXTS)
