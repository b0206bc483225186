"""Restarts, second runs, and rollouts counted apart from optimizer steps."""

import math

import pytest

from steadyrl.analysis.foreign.log import LogRow, to_step
from steadyrl.analysis.foreign.steps import COUNTED, by_step
from steadyrl.analysis.foreign.trainers import TRAINERS

REWARD = "critic/score/mean"


def rows(*steps: tuple[int, float]) -> list[LogRow]:
    return [LogRow(step=step, values={REWARD: value}) for step, value in steps]


def rewards(*steps: tuple[int, float]) -> tuple[dict[int, float], tuple[str, ...]]:
    found = by_step(rows(*steps), TRAINERS["verl"], REWARD)
    return {step: values[REWARD] for step, values in found.by_step.items()}, found.remarks


def test_after_a_restart_the_later_values_count() -> None:
    found, remarks = rewards((1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (3, 0.35), (4, 0.45))

    assert found == {1: 0.1, 2: 0.2, 3: 0.35, 4: 0.45}
    assert remarks == ("Steps 3 to 4 were logged again after a restart; the later values count.",)


def test_steps_that_a_restart_has_not_reached_again_are_dropped() -> None:
    assert rewards((1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (2, 0.25))[0] == {1: 0.1, 2: 0.25}


def test_of_two_runs_in_one_file_the_last_one_is_read() -> None:
    found, remarks = rewards((1, 0.1), (2, 0.2), (1, 0.5), (2, 0.6))

    assert found == {1: 0.5, 2: 0.6}
    assert remarks == ("The log holds 2 runs, one after the other; the last one is read.",)


@pytest.mark.parametrize("order", [(3, 2, 1), (2, 3, 1), (1, 3, 2)])
def test_rows_in_another_order_are_neither(order: tuple[int, ...]) -> None:
    found, remarks = rewards(*((step, step / 10) for step in order))

    assert list(found.items()) == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert remarks == ("The rows are not in the order of their steps; they were sorted.",)


def test_a_step_that_is_logged_twice_is_neither() -> None:
    assert rewards((1, 0.1), (1, 0.15), (2, 0.2)) == ({1: 0.15, 2: 0.2}, ())


def test_rows_of_one_step_are_joined() -> None:
    found = by_step(
        [
            LogRow(step=5, values={REWARD: 0.5}),
            LogRow(step=6, values={REWARD: 0.5}),
            LogRow(step=5, values={"val-core/math/acc/mean@8": 0.3}),  # measured meanwhile
        ],
        TRAINERS["verl"],
        REWARD,
    )

    assert found.by_step[5] == {REWARD: 0.5, "val-core/math/acc/mean@8": 0.3}
    assert found.remarks == ()


def test_optimizer_steps_belong_to_the_rollout_before_them() -> None:
    log = []
    for rollout in range(3):
        log.append(LogRow(values={"rollout/step": float(rollout), "rollout/raw_reward": 0.5}))
        log += [
            LogRow(values={"train/step": float(update), "train/ppo_kl": float(update)})
            for update in (2 * rollout, 2 * rollout + 1)
        ]
    found = by_step(log, TRAINERS["slime"], "rollout/raw_reward")

    assert found.updates == 2
    assert [values["train/ppo_kl"] for values in found.by_step.values()] == [0.5, 2.5, 4.5]


def test_events_of_optimizer_steps_are_told_by_their_group() -> None:
    log = []
    for rollout in range(3):  # TensorBoard: each with a counter of its own, and no column for it
        log.append(LogRow(step=rollout, values={"rollout/raw_reward": 0.5}))
        log += [
            LogRow(step=2 * rollout + update, values={name: 1.0})
            for update in range(2)
            for name in ("train/ppo_kl", "train/grad_norm")
        ]
    found = by_step(log, TRAINERS["slime"], "rollout/raw_reward")

    assert found.updates == 2
    assert list(found.by_step) == [0, 1, 2]
    assert all(len(values) == 3 for values in found.by_step.values())


def test_optimizer_steps_alone_keep_their_own_numbers() -> None:
    log = [LogRow(values={"train/step": float(step), "train/loss": 0.1}) for step in range(3)]
    found = by_step(log, TRAINERS["slime"], "train/loss")

    assert list(found.by_step) == [0, 1, 2]
    assert found.updates == 1


def test_rows_without_a_step_are_counted() -> None:
    log = [LogRow(values={"reward": 0.1}), LogRow(values={"reward": math.nan})]

    assert list(by_step(log, TRAINERS["trl"], "reward").by_step) == [1, 2]


@pytest.mark.parametrize("step", [2.5, math.nan])
def test_a_step_that_is_no_whole_number_is_not_one(step: float) -> None:
    log = [LogRow(values={"train/global_step": step, "reward": 0.5}, step=7)]

    assert list(by_step(log, TRAINERS["trl"], "reward").by_step) == [7]


def test_two_runs_that_write_into_one_file_are_noticed() -> None:
    mixed = [(step, value) for step in range(1, 5) for value in (0.1 * step, 0.9 - 0.1 * step)]
    twice = [(step, 0.1 * step) for step in range(1, 5) for _ in range(2)]

    assert "4 steps were logged twice with different values" in rewards(*mixed)[1][0]
    assert rewards(*twice)[1] == ()


@pytest.mark.parametrize("steps", [(0.5, 1, 1.5, 2), (0, 0, 0, 0)])
def test_rows_are_counted_where_steps_do_not_count(steps: tuple[float, ...]) -> None:
    log = [LogRow(step=to_step(step), values={REWARD: 0.5}) for step in steps]
    found = by_step(log, TRAINERS["verl"], REWARD)

    assert list(found.by_step) == [1, 2, 3, 4]
    assert found.remarks == (COUNTED,)


def test_a_row_without_a_step_among_many_is_left_out() -> None:
    log = [LogRow(step=step, values={REWARD: 0.5}) for step in (*range(1, 20), None, 20)]
    found = by_step(log, TRAINERS["verl"], REWARD)

    assert list(found.by_step) == list(range(1, 21))
    assert found.remarks == ("1 row without a step left out.",)
