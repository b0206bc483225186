"""Tasks from which nothing can be learned are named, and sparse ones are not."""

from tests.analysis.diagnosed_runs import diagnosis, sound, stage

from steadyrl.analysis.causes import CauseName
from steadyrl.analysis.diagnosis import Status


def test_an_environment_that_fails_is_named() -> None:
    found = diagnosis(sound(environment_failed_fraction=[0.0, 0.0, 0.2] + [0.8] * 5))
    assert found.status is Status.FAULT
    assert found.cause is not None
    assert found.cause.name is CauseName.ENVIRONMENT
    assert found.step == 4  # medians of three: 0, then 0.2
    assert "Environment failures reached 0.2 at step 4, above 0.1" in found.findings[0]


def test_an_environment_that_failed_for_a_while_is_no_fault() -> None:
    flaky = [0.0, 0.9, 0.9, 0.9, 0.1, 0.0, 0.0, 0.0]
    assert diagnosis(sound(environment_failed_fraction=flaky)).status is Status.HEALTHY


def test_a_run_without_signal_from_the_beginning_learns_nothing() -> None:
    nothing = stage(reward=[0.01] * 12, no_signal_fraction=[0.95] * 12)
    found = diagnosis(nothing)
    assert (found.status, found.step) == (Status.FAULT, 1)
    assert found.cause is not None
    assert found.cause.name is CauseName.NO_SIGNAL
    assert "easier or harder tasks" in found.cause.change
    early = stage(reward=[0.01] * 9, no_signal_fraction=[0.95] * 9)
    assert diagnosis(early).status is Status.TOO_SHORT


def test_answers_that_are_cut_are_told_from_answers_that_are_wrong() -> None:
    cut = stage(
        reward=[0.0] * 12, no_signal_fraction=[1.0] * 12, truncated_fraction=[0.94] * 6 + [1.0] * 6
    )
    cause = diagnosis(cut).cause
    assert cause is not None
    assert "97% of the episodes were cut short" in cause.reason
    assert cause.change.startswith("Raise sampling.max_new_tokens")


def test_sparse_rewards_and_mastered_tasks_are_no_fault() -> None:
    sparse = stage(reward=[0.01] * 12, no_signal_fraction=[1.0] * 11 + [0.85])
    mastered = stage(
        reward=[0.5, 0.7, 0.9] + [1.0] * 12, no_signal_fraction=[0.2, 0.3, 0.6] + [1.0] * 12
    )
    for each in (sparse, mastered):
        assert diagnosis(each).status is Status.HEALTHY
    assert diagnosis(mastered).remarks == ()
    assert diagnosis(sparse).remarks == (
        "Groups without signal: 1 in the median of the steps, above 0.9 from the start.",
    )


def test_updates_that_rounding_loses_are_named() -> None:
    found = diagnosis(sound(update_reached_fraction=[0.0, 0.01, 0.013, 0.012] * 2))
    assert found.status is Status.FAULT
    assert found.cause is not None
    assert found.cause.name is CauseName.LOST_UPDATES
    assert "reached 0.01 at step 3, below 0.5: half of the movement" in found.findings[0]
    assert "learner.rounding to 'stochastic'" in found.cause.change


def test_updates_that_do_not_reach_the_engine_are_named() -> None:
    found = diagnosis(sound(engine_update_reached_fraction=[0.18, 0.17, 0.19, 0.2] * 2))
    assert found.status is Status.FAULT
    assert found.cause is not None
    assert found.cause.name is CauseName.LOST_UPDATES
    assert "the rollout engine, which go on sampling" in found.cause.reason
    assert "engine.rounding to 'stochastic'" in found.cause.change


def test_updates_that_reach_the_policy_in_the_end_are_no_fault() -> None:
    for reached in ([1.0] * 8, [0.97, 1.04, 1.01, 0.99] * 2, [0.2, 0.3, 0.4, 0.6, 0.8, 0.9, 1, 1]):
        healthy = diagnosis(sound(update_reached_fraction=reached))
        assert healthy.status is Status.HEALTHY


def test_a_run_that_forgets_is_named_though_its_reward_rises() -> None:
    found = diagnosis(sound(drift_loglikelihood=[0.0, -0.05, -0.2, -0.4]))
    assert (found.status, found.step) == (Status.FORGETTING, 3)
    assert found.cause is not None
    assert found.cause.name is CauseName.FORGETTING
    assert "0.4 nats per token less likely, a perplexity 1.49 times" in found.cause.reason
    assert "algorithm.reference_kl.coefficient" in found.cause.change
    collapsed = sound(drift_loglikelihood=[0.0, -0.4], ess=[1.0] * 3 + [0.3] * 5)
    assert diagnosis(collapsed).status is Status.ABOUT_TO_COLLAPSE
    assert diagnosis(collapsed).evidence[0].metric == "drift_loglikelihood"


def test_a_drift_that_came_back_or_is_small_is_no_forgetting() -> None:
    for drift in ([0.0, -0.3, -0.05], [0.0, -0.09], [0.0, 0.4]):
        healthy = diagnosis(sound(drift_loglikelihood=drift))
        assert healthy.status is Status.HEALTHY
