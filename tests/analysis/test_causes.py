"""The factor that left first is blamed, and the remedy fits the run's settings."""

import pytest
from tests.analysis.diagnosed_runs import stage

from steadyrl.analysis.causes import Cause, CauseName, cause_of
from steadyrl.analysis.departures import departures
from steadyrl.analysis.run_settings import RunSettings
from steadyrl.analysis.series import Stage

FALLEN = [0.3, 0.31, 0.3, 0.31, 0.3, 0.2, 0.1, 0.02, 0.01, 0.0, 0.0, 0.0]
CALM = [0.002] * 12
RISING = [0.002] * 4 + [0.03] * 8


def cause(run: Stage, settings: RunSettings) -> Cause:
    found = departures(run, settings)
    assert found
    return cause_of(run, found, settings)


def test_a_fall_with_calm_weights_is_the_updates_doing() -> None:
    found = cause(stage(reward=FALLEN, mismatch_kl_k3=CALM), RunSettings(learning_rate=6e-3))

    assert found.name is CauseName.LEARNING_RATE
    assert "Neither factor of the weight" in found.reason
    assert "optimizer.learning_rate (now 0.006)" in found.change


def test_staleness_beyond_its_number_of_updates_is_the_updates_doing() -> None:
    run = stage(reward=FALLEN, staleness_kl_k3=[0.1] * 12, ess=[0.3] * 12)
    found = cause(run, RunSettings(mini_batches=2))

    assert found.name is CauseName.LEARNING_RATE
    assert "0.05 nats per update" in found.reason


def test_a_mismatch_that_rose_before_the_fall_is_to_blame() -> None:
    run = stage(reward=FALLEN, mismatch_kl_k3=RISING, routing_disagreement=[0.02] * 12)
    found = cause(run, RunSettings(numerics="fp8"))

    assert found.name is CauseName.NUMERICS
    assert "engine.numerics (now 'fp8')" in found.change


def test_a_mismatch_whose_routing_doubled_is_one_of_routing() -> None:
    disagreement = [0.02] * 4 + [0.09] * 8
    run = stage(reward=FALLEN, mismatch_kl_k3=RISING, routing_disagreement=disagreement)
    found = cause(run, RunSettings())

    assert found.name is CauseName.ROUTING
    assert "routing_replay to 'r3'" in found.change


def test_a_mismatch_that_rose_after_the_fall_is_not_to_blame() -> None:
    late = [0.002] * 9 + [0.03] * 3

    assert cause(stage(reward=FALLEN, mismatch_kl_k3=late), RunSettings()).name is (
        CauseName.LEARNING_RATE
    )


def test_a_lost_sample_size_is_blamed_on_the_larger_of_the_two_kls() -> None:
    few = [0.9] * 3 + [0.3] * 9
    stale = stage(ess=few, staleness_kl_k3=[0.1] * 12, mismatch_kl_k3=CALM)
    apart = stage(ess=few, staleness_kl_k3=[0.001] * 12, mismatch_kl_k3=CALM)
    settings = RunSettings(mini_batches=8)

    assert cause(stale, settings).name is CauseName.STALENESS
    assert cause(apart, settings).name is CauseName.NUMERICS


def test_a_fall_as_staleness_grew_is_staleness_of_many_updates() -> None:
    run = stage(reward=FALLEN, staleness_kl_k3=[0.03] * 3 + [0.15] * 9, mismatch_kl_k3=CALM)

    assert cause(run, RunSettings(mini_batches=8)).name is CauseName.STALENESS


def test_staleness_is_remedied_by_clipping_first_where_there_is_none() -> None:
    run = stage(ess=[0.3] * 3, staleness_kl_k3=[0.1] * 3)
    clipping = cause(run, RunSettings(mini_batches=8))
    not_clipping = cause(run, RunSettings(mini_batches=8, clips=False))

    assert clipping.change == ("Lower algorithm.mini_batches (now 8) or lower the learning rate.")
    assert not_clipping.change.startswith("Set the objective's clip_low to 0.2 and clip_high")


@pytest.mark.parametrize(
    ("objective", "change"),
    [
        ("dppo", "Set the objective's threshold to 0.15, or to 0.05 for kl, or lower"),
        ("gspo", "Set the objective's clip_low to 3e-4"),
        ("reinforce", "Use an objective that clips, such as minirl, or lower"),
        ("mine:Own", "Bound how far tokens move in mine:Own, or use an objective that clips"),
    ],
)
def test_the_remedy_is_one_that_the_objective_has(objective: str, change: str) -> None:
    run = stage(ess=[0.3] * 3, staleness_kl_k3=[0.1] * 3)
    settings = RunSettings(mini_batches=8, clips=False, objective=objective)
    assert cause(run, settings).change.startswith(change)


def test_stale_routing_is_remedied_by_the_replay_that_suits_the_mini_batches() -> None:
    run = stage(
        ess=[0.9] * 3 + [0.3] * 9,
        staleness_kl_k3=[0.01] * 12,
        mismatch_kl_k3=CALM,
        routing_disagreement=[0.02] * 3 + [0.1] * 9,
    )
    two, eight = (cause(run, RunSettings(mini_batches=n)) for n in (4, 8))
    replayed = cause(run, RunSettings(mini_batches=8, routing_replay="r3"))

    assert (two.name, eight.name) == (CauseName.STALE_ROUTING, CauseName.STALE_ROUTING)
    assert "routing_replay to 'r3'" in eight.change
    assert replayed.name is CauseName.STALENESS
