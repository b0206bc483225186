"""Rows without signal are left out of the update, which stays the same."""

from steadyrl.objectives import NLL, Aggregation
from steadyrl.objectives.measurements import policy_metrics
from tests.closeness import assert_close
from tests.learners.small import (
    count_rows,
    largest_difference,
    made_up_batch,
    step,
    term_on,
    tiny_learner,
    weights_of,
    without_signal,
)


def test_rows_without_signal_are_left_out_and_the_step_is_the_same() -> None:
    batches = [made_up_batch((1.0, 0.0, 0.0, -1.0), seed=n) for n in (1, 2)]
    skipping = tiny_learner(measure_skipped=False)
    running = tiny_learner(skip_no_signal=False)
    rows = count_rows(skipping), count_rows(running)
    for batch in batches:
        gradients = step(skipping, batch), step(running, batch)
        assert_close(*gradients)

    assert_close(weights_of(skipping), weights_of(running))
    assert rows == ({"learned": 4, "measured": 0}, {"learned": 8, "measured": 0})


def test_a_batch_without_any_signal_moves_by_momentum_alone_whether_skipped_or_run() -> None:
    batch = made_up_batch()
    skipping, running = tiny_learner(), tiny_learner(skip_no_signal=False)
    for learner in (skipping, running):
        step(learner, batch)
    before = weights_of(skipping)
    rows = count_rows(skipping)
    for learner in (skipping, running):
        update = learner.update([term_on(without_signal(batch))], step=1, steps=2)
        assert update.gradient_norm == 0

    assert rows == {"learned": 0, "measured": len(batch)}
    assert largest_difference(weights_of(skipping), before) > 1e-4
    assert_close(weights_of(skipping), weights_of(running))


def test_skipped_rows_are_measured_on_every_token() -> None:
    batch = made_up_batch((1.0, 0.0, 0.0, -1.0))
    skipping, running = tiny_learner(), tiny_learner(skip_no_signal=False)
    rows = count_rows(skipping)
    measured, complete = (
        learner.update([term_on(batch)], step=0, steps=1).measurements
        for learner in (skipping, running)
    )

    assert rows == {"learned": 2, "measured": 2}
    assert len(measured.logprobs) == int(batch.loss_mask.sum())
    for name in ("logprobs", "old_logprobs", "entropy", "rollout_logprobs"):
        values, expected = getattr(measured, name), getattr(complete, name)
        assert_close(values.sort().values, expected.sort().values)


def test_nothing_is_measured_where_skipped_rows_are_not() -> None:
    batch = made_up_batch((1.0, 0.0, 0.0, -1.0))
    learner = tiny_learner(measure_skipped=False)
    some = learner.update([term_on(batch)], step=0, steps=2).measurements
    none = learner.update([term_on(without_signal(batch))], step=1, steps=2).measurements

    assert len(some.logprobs) == int(batch.loss_mask[[0, 3]].sum())
    assert policy_metrics(none) == {}


def test_terms_that_do_not_depend_on_advantages_run_every_row() -> None:
    batch = without_signal(made_up_batch())
    learner = tiny_learner()
    rows = count_rows(learner)
    learner.update([term_on(batch, NLL(), Aggregation.TOKEN_MEAN)], step=0, steps=1)

    assert rows == {"learned": len(batch), "measured": 0}
