"""Questions about sampled answers, and about the reward of answers known to be right or wrong."""

import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

from steadyrl.analysis.safety import Finding
from steadyrl.base.errors import UserError
from steadyrl.environments.protocol import Environment, SupportsSolutions, Task
from steadyrl.evaluation.accuracy import Accuracy
from steadyrl.records.trajectory import Group
from steadyrl.rollout.tasks import respond, start_episode

RANDOM_LENGTH = 40
"""Characters of a random answer."""

NO_SOLUTION = "the environment does not know solutions: give it a method solution(task)"


def sample_findings(groups: Sequence[Group], group_size: int) -> Iterator[Finding]:
    """Findings on sampled episodes.

    Args:
        group_size: Episodes for each prompt in training.
    """
    episodes = [episode for group in groups for episode in group.trajectories]
    cut = sum(episode.truncated for episode in episodes) / len(episodes)
    yield Finding.of("truncated", cut, f"of {len(episodes)} answers")
    size = min(group_size, min(len(group.trajectories) for group in groups))
    alike = sum(_chance_of_no_signal(group, size) for group in groups) / len(groups)
    yield Finding.of("no_signal", alike, f"of {size} answers each")
    accuracy = Accuracy(groups=tuple(groups))
    if not accuracy.is_measured:
        reason = "the environment failed whenever it was called"
        yield from (Finding.missing(name, reason) for name in ("pass_1", "pass_k"))
        return
    k = min(8, accuracy.samples)
    for name, tried in (("pass_1", 1), ("pass_k", k)):
        chance = accuracy.pass_at(tried)
        if chance is None:
            yield Finding.missing(name, "the environment failed in every task")
        else:
            fewer = f", with {k} answers each" if name == "pass_k" and k < 8 else ""
            yield Finding.of(name, chance, f"of {len(groups)} tasks{fewer}")


def _chance_of_no_signal(group: Group, size: int) -> float:
    """Probability that `size` of the group's episodes, drawn at random, all earn the same."""
    rewards = [episode.reward for episode in group.trajectories]
    equal = sum(comb(rewards.count(reward), size) for reward in {*rewards})
    return equal / comb(len(rewards), size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earnings:
    """Rewards of answers to one task.

    Example:
        Earnings(solution=("7",), gold=1.0, garbage=(0.0, 0.0, 0.0))
    """

    solution: tuple[str, ...] | None
    """None if the environment knows none."""

    unsolved: str = ""
    """The reason why there is no solution."""

    gold: float | None
    """Reward of the solution."""

    garbage: tuple[float, ...]
    """Rewards of an empty answer, a random one, and a copy of the prompt."""

    @property
    def enough(self) -> float:
        """The reward that a wrong answer must not reach: that of the right one, or 1."""
        return self.gold if self.gold is not None and self.gold > 0 else 1.0


async def reward_findings(
    environment: Environment, tasks: Sequence[Task], *, turns: int
) -> list[Finding]:
    """Findings on what right and wrong answers to `tasks` earn.

    Args:
        turns: Turns after which every episode is over.
    """
    played = [await _earnings(environment, task, turns) for task in tasks]
    garbage = [reward >= each.enough for each in played for reward in each.garbage]
    share = sum(garbage) / len(garbage)
    return [
        _gold_finding(played),
        Finding.of("garbage", share, f"of {len(garbage)} answers"),
        await _other_gold_finding(environment, tasks, played),
    ]


def _gold_finding(played: Sequence[Earnings]) -> Finding:
    golds = [(each.gold, max(each.garbage)) for each in played if each.gold is not None]
    if not golds:
        return Finding.missing("gold", played[0].unsolved)
    share = sum(gold > max(0.0, garbage) for gold, garbage in golds) / len(golds)
    return Finding.of("gold", share, f"of {len(golds)} tasks")


async def _other_gold_finding(
    environment: Environment, tasks: Sequence[Task], played: Sequence[Earnings]
) -> Finding:
    """The solution of the next task that has another one is given to each task."""
    known = [(task, each) for task, each in zip(tasks, played, strict=True) if each.solution]
    paid: list[bool] = []
    for number, (task, own) in enumerate(known):
        later = (each.solution for _, each in (*known[number + 1 :], *known[:number]))
        other = next((solution for solution in later if solution != own.solution), None)
        if other is not None:
            paid.append(await _earned(environment, task, other) >= own.enough)
    if not paid:
        return Finding.missing("other_gold", played[0].unsolved or "all have one answer")
    return Finding.of("other_gold", sum(paid) / len(paid), f"of {len(paid)} tasks")


async def _earnings(environment: Environment, task: Task, turns: int) -> Earnings:
    solution, unsolved = _solution(environment, task)
    return Earnings(
        solution=solution,
        unsolved=unsolved,
        gold=None if solution is None else await _earned(environment, task, solution),
        garbage=tuple([await _earned(environment, task, [t] * turns) for t in _garbage(task)]),
    )


def _solution(environment: Environment, task: Task) -> tuple[tuple[str, ...] | None, str]:
    """The replies that solve `task`, or None and the reason why none are known."""
    if not isinstance(environment, SupportsSolutions):
        return None, NO_SOLUTION
    try:
        return environment.solution(task), ""
    except UserError as error:
        return None, str(error).rstrip(".")


def _garbage(task: Task) -> tuple[str, ...]:
    """An empty answer, a random one, and the prompt itself."""
    generator = random.Random(task.id)
    letters = "".join(generator.choices(string.ascii_letters + " ", k=RANDOM_LENGTH))
    return "", letters, task.prompt[-1].content


async def _earned(environment: Environment, task: Task, replies: Sequence[str]) -> float:
    """The reward of an episode with these turns; 0 where the environment fails."""
    earned = 0.0
    try:
        episode = start_episode(environment, task)
        for reply in replies:
            outcome = await respond(episode, reply)
            earned += outcome.reward
            if outcome.terminated:
                break
    except Exception:  # an environment is foreign code: what it cannot judge it does not pay
        return 0.0
    return earned
