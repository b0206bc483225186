"""Every environment that knows solutions is paid for them in full."""

from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.environments.answer_formats import AnswerFormat, extract_answer, write_answer
from steadyrl.environments.arithmetic import ArithmeticSettings
from steadyrl.environments.frozen_lake import FrozenLakeSettings
from steadyrl.environments.protocol import Split, SupportsSolutions
from steadyrl.environments.reasoning_gym_tasks import ReasoningGymSettings
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.environments.sokoban import SokobanSettings
from steadyrl.environments.verifiable_math import VerifiableMathSettings
from steadyrl.rollout.tasks import respond, start_episode

FORMATS = list(AnswerFormat)


@pytest.mark.parametrize("answer_format", FORMATS)
def test_a_written_answer_is_the_one_that_is_read(answer_format: AnswerFormat) -> None:
    assert extract_answer(write_answer("42", answer_format), answer_format) == "42"


def problems(folder: Path) -> Path:
    path = folder / "problems.jsonl"
    rows = [f'{{"problem": "What is {n} + {n}?", "answer": "{2 * n}"}}' for n in range(40)]
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def settings(name: str, folder: Path) -> EnvironmentSettings:
    made: dict[str, Any] = {
        "chain": lambda: ArithmeticSettings(),
        "steps": lambda: ArithmeticSettings(turns="multi"),
        "lake": lambda: FrozenLakeSettings(rendering="compact"),
        "lake in turns": lambda: FrozenLakeSettings(),
        "sokoban": lambda: SokobanSettings(rendering="compact"),
        "gym": lambda: ReasoningGymSettings(dataset="chain_sum", answer_format="tag"),
        "math": lambda: VerifiableMathSettings(path=problems(folder)),
    }
    return made[name]()


@pytest.mark.parametrize(
    "name", ["chain", "steps", "lake", "lake in turns", "sokoban", "gym", "math"]
)
def test_solutions_earn_the_full_reward(name: str, tmp_path: Path) -> None:
    environment = settings(name, tmp_path).make()
    assert isinstance(environment, SupportsSolutions)

    async def earned(index: int) -> float:
        task = environment.task(Split.TRAIN, index)
        episode, reward = start_episode(environment, task), 0.0
        for reply in environment.solution(task):
            reward += (await respond(episode, reply)).reward
        return reward

    assert [drive(earned(index)) for index in range(3)] == [1.0, 1.0, 1.0]


def test_a_task_without_an_answer_has_no_solution() -> None:
    environment = ReasoningGymSettings(dataset="chain_sum").make()
    task = environment.task(Split.TRAIN, 0)
    task.payload["answer"] = None

    with pytest.raises(UserError, match="gives no answer to"):
        environment.solution(task)
