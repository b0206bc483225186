"""The workload on a real model, without the model."""

import re

from benchmarks.performance.registry import GROUPS, W5
from benchmarks.performance.smollm2_world import WordProblems
from benchmarks.performance.targets import TARGETS

from steadyrl.environments.protocol import Split


def test_a_word_problem_is_earned_by_its_number_at_the_end() -> None:
    environment = WordProblems()
    for index in range(20):
        task = environment.task(Split.TRAIN, index)
        first, second, days = map(int, re.findall(r"\d+", task.prompt[0].content))
        right = f"On the last day there are {first + second * days}."

        assert environment.start(task).respond(right).reward == 1
        assert environment.start(task).respond(f"{right} Or 1.").reward == 0
        assert environment.start(task).respond("Many.").reward == 0


def test_a_row_is_measured_alone_and_the_beginning_of_a_name_names_all() -> None:
    def chosen(*names: str) -> list[str]:
        return [group.name for group in GROUPS if group.is_named(names)]

    assert chosen("w5-step-float32") == ["w5-step-float32"]
    assert chosen("w5") == [group.name for group in W5]
    assert chosen("step", "w3") == ["step", "w3"]
    assert chosen("w") == []


def test_a_model_that_must_be_fetched_is_not_measured_unasked() -> None:
    assert not any(group.always for group in W5)


def test_each_row_of_the_real_model_has_a_target() -> None:
    rows = {target.row for target in TARGETS if target.row.startswith("w5-")}

    assert rows == {
        f"w5-{name}-{dtype}"
        for name in ("step", "rollout", "rollout-operations", "update", "memory")
        for dtype in ("float32", "bfloat16")
    }
