"""The workload on a real model, without the model."""

from benchmarks.performance.registry import GROUPS, W5
from benchmarks.performance.smollm2_world import WordProblems
from benchmarks.performance.targets import TARGETS

from steadyrl.environments.protocol import Split


def test_half_of_all_answers_are_rewarded_whatever_they_say() -> None:
    environment = WordProblems()
    task = environment.task(Split.TRAIN, 0)
    rewards = [environment.start(task).respond(f"{n} apples.").reward for n in range(400)]
    assert set(rewards) == {0.0, 1.0}
    assert 0.4 < sum(rewards) / len(rewards) < 0.6
    assert environment.task(Split.TRAIN, 1).prompt != task.prompt


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
