"""Thoughts do not count, by one rule in every environment."""

import json
from pathlib import Path

import pytest

from steadyrl.environments import strip_thinking
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.arithmetic_chain import partial_results
from steadyrl.environments.frozen_lake import FrozenLake, FrozenLakeSettings
from steadyrl.environments.hotpot_qa import HotpotQA, HotpotQASettings
from steadyrl.environments.protocol import Environment, Outcome, Split, Task
from steadyrl.environments.reasoning_gym_tasks import ReasoningGym, ReasoningGymSettings
from steadyrl.environments.sokoban import Sokoban, SokobanSettings
from steadyrl.environments.splits import split_of
from steadyrl.environments.verifiable_math import VerifiableMath, VerifiableMathSettings
from steadyrl.lab.worlds.coded_questions import CodedQuestions
from steadyrl.lab.worlds.synthetic_questions import SyntheticQuestions
from tests.driving import respond


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("4", "4"),
        ("<think>3</think>4", "4"),
        ("3</think>4", "4"),
        ("<think>3", ""),
        ("<think>3</think>", ""),
        ("<think>1<think>2</think>3</think>4", "4"),
        ("<think>3</think>4<think>5", "4"),
        ("4<think>5", "4"),
        ("<THINK>3</THINK>4", "4"),
        ("<thinking>3</thinking>4", "4"),
        ("[THINK]3[/THINK]4", "4"),
        ("I think 4", "I think 4"),
    ],
)
def test_what_follows_the_last_thought_is_spoken(text: str, spoken: str):
    assert strip_thinking(text) == spoken


def attempts(path: Path) -> dict[str, tuple[Environment, Task, tuple[str, ...]]]:
    """Every environment with a task and the turns that earn 1."""
    problem = next(f"{n}+1?" for n in range(100) if split_of(f"{n}+1?") is Split.TRAIN)
    path.write_text(json.dumps({"problem": problem, "answer": 45}))
    first: dict[str, tuple[Environment, Task, tuple[str, ...]]] = {}

    def add(name: str, environment: Environment, *turns: str) -> None:
        first[name] = environment, environment.task(Split.TRAIN, 0), turns

    math = VerifiableMath(VerifiableMathSettings(path=path, timeout=20.0))
    add("math", math, r"\boxed{45}")
    gym = ReasoningGym(ReasoningGymSettings(dataset="chain_sum", timeout=20.0))
    add("reasoning_gym", gym, gym.task(Split.TRAIN, 0).payload["answer"])
    for turns in ("single", "multi"):
        chains = Arithmetic(ArithmeticSettings(turns=turns))
        results = [str(value) for value in partial_results(chains.task(Split.TRAIN, 0).payload)]
        add(
            f"arithmetic, {turns}", chains, *([",".join(results)] if turns == "single" else results)
        )
    for rendering in ("paper", "compact"):
        for grid in (
            FrozenLake(FrozenLakeSettings(rendering=rendering)),
            Sokoban(SokobanSettings(rendering=rendering)),
        ):
            turns = grid.solution(grid.task(Split.TRAIN, 0))
            add(f"{type(grid).__name__}, {rendering}", grid, *turns)
    for questions, style in ((SyntheticQuestions(), "chat"), (CodedQuestions(), "compact")):
        qa = HotpotQA(HotpotQASettings(questions=questions, style=style))
        add(f"hotpot_qa, {style}", qa, *qa.solution(qa.task(Split.TRAIN, 0)))
    return first


def played(environment: Environment, task: Task, turns: list[str]) -> Outcome:
    """The outcome of the last turn."""
    episode = environment.start(task)
    return [respond(episode, turn) for turn in turns][-1]


@pytest.mark.slow
def test_only_what_is_spoken_counts_in_every_environment(tmp_path: Path):
    for name, (environment, task, turns) in attempts(tmp_path / "problems.jsonl").items():
        *earlier, last = turns
        aloud = [*earlier, f"<think>0 left</think>\n{last}"]
        assert played(environment, task, aloud).reward == 1.0, name
        unopened = [*earlier, f"so 0</think>{last}"]
        assert played(environment, task, unopened).reward == 1.0, name
        for silent in (f"<think>{last}", f"<think>{last}</think>", f"{last}</think>"):
            assert played(environment, task, [*earlier, silent]).reward == 0.0, (name, silent)
