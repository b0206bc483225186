from collections.abc import Callable
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import RunFolder
from steadyrl.report.samples import read_comparison

MakeRun = Callable[..., RunFolder]


def answer(task: str, reward: float, sample: int = 0, **more: Any) -> dict[str, Any]:
    row = {"stage": "rl", "split": "test", "task_id": task, "sample": sample, "prompt": "3+4="}
    return row | {"response": f"{task} {reward}", "reward": reward, "finish_reason": "stop"} | more


@pytest.fixture
def folder(make_run: MakeRun) -> RunFolder:
    return make_run([{"stage": "rl", "step": 1, "reward": 0.5}])


def test_the_first_evaluation_is_compared_with_the_last(folder: RunFolder) -> None:
    for step, reward in ((0, 0.0), (9, 0.5), (1_000_000, 1.0)):
        folder.write_completions("evaluation_rl", step, [answer("a", reward)])
    folder.write_completions("rl", 2, [answer("a", 0.25)])
    comparison = read_comparison(folder, "rl")

    assert comparison is not None
    assert (comparison.before_step, comparison.after_step) == (0, 1_000_000)
    assert [(pair.before.reward, pair.change) for pair in comparison.pairs] == [(0.0, 1.0)]


def test_answers_are_paired_by_task_and_sample(folder: RunFolder) -> None:
    before = [answer("a", 0, 0), answer("a", 1, 1), answer("b", 0), answer("only before", 0)]
    after = [answer("b", 1), answer("a", 1, 1), answer("a", 0.5, 0), answer("only after", 0)]
    folder.write_completions("evaluation_rl", 0, before)
    folder.write_completions("evaluation_rl", 5, after)
    comparison = read_comparison(folder, "rl")

    assert comparison is not None
    changes = [(p.before.task_id, p.before.sample, p.change) for p in comparison.pairs]
    assert changes == [("a", 0, 0.5), ("a", 1, 0.0), ("b", 0, 1.0)]


def test_what_got_worse_is_shown_first_and_each_task_once(
    folder: RunFolder,
) -> None:
    rewards = {"same": (0, 0), "gain": (0, 1), "part": (0, 0.5), "loss": (1, 0)}
    before = [answer(task, old) for task, (old, _) in rewards.items()] + [answer("same", 0, 1)]
    after = [answer(task, new) for task, (_, new) in rewards.items()] + [answer("same", 0.25, 1)]
    folder.write_completions("evaluation_rl", 0, before)
    folder.write_completions("evaluation_rl", 5, after)
    comparison = read_comparison(folder, "rl")

    assert comparison is not None
    shown = [(pair.before.task_id, pair.change) for pair in comparison.shown(9)]
    assert shown == [("loss", -1.0), ("gain", 1.0), ("part", 0.5), ("same", 0.25)]
    assert [pair.change for pair in comparison.shown(2)] == [-1.0, 1.0]


def test_half_of_the_places_are_kept_for_what_did_not_get_worse(folder: RunFolder) -> None:
    changes = {"a": -0.25, "b": -1.0, "c": -0.5, "d": 0.5}
    folder.write_completions("evaluation_rl", 0, [answer(task, 1) for task in changes])
    after = [answer(task, 1 + change) for task, change in changes.items()]
    folder.write_completions("evaluation_rl", 5, after)
    comparison = read_comparison(folder, "rl")

    assert comparison is not None
    shown = [[pair.before.task_id for pair in comparison.shown(n)] for n in (1, 2, 3, 4)]
    assert shown == [["b"], ["b", "d"], ["b", "c", "d"], ["b", "c", "a", "d"]]


def test_the_gain_counts_each_task_once(folder: RunFolder) -> None:
    before = [answer(task, 0, sample) for task in "abcd" for sample in (0, 1)]
    rewards = {"a": 0.5, "b": 0.5, "c": 0, "d": 0}
    after = [answer(task, rewards[task], sample) for task in "abcd" for sample in (0, 1)]
    folder.write_completions("evaluation_rl", 0, before)
    folder.write_completions("evaluation_rl", 5, after)
    comparison = read_comparison(folder, "rl")

    assert comparison is not None
    assert comparison.gain is not None
    # Mean 1/4, standard deviation of the mean sqrt(1/48).
    assert comparison.gain.low == pytest.approx(0.25 - 1.96 / 48**0.5)


def test_a_run_that_evaluated_once_has_no_after(folder: RunFolder) -> None:
    folder.write_completions("evaluation_rl", 0, [answer("a", 1)])
    comparison = read_comparison(folder, "rl")

    assert comparison is not None
    assert comparison.after_step is None
    assert [pair.after for pair in comparison.pairs] == [None]


def test_a_run_that_kept_no_answers_has_no_comparison(folder: RunFolder) -> None:
    assert read_comparison(folder, "rl") is None


def test_an_answer_without_a_reward_is_refused_by_its_row(folder: RunFolder) -> None:
    rows = [answer("a", 1), answer("b", 1) | {"reward": None}]
    folder.write_completions("evaluation_rl", 0, rows)

    with pytest.raises(UserError, match=r'Row 2 of .* no usable "reward", got None'):
        read_comparison(folder, "rl")
