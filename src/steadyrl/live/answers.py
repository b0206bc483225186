"""Prompts of stored sessions as an environment, and rewards without one."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from steadyrl.base.errors import call_user_code
from steadyrl.environments.protocol import Episode, Outcome, Split, Task, as_reward
from steadyrl.live.records import Example
from steadyrl.records.message import Message
from steadyrl.records.trajectory import Trajectory

RewardFunction = Callable[[tuple[Message, ...], str, str], Any]
"""(prompt, answer, correction) -> number."""

ENOUGH_OF_A_PROMPT = 2
"""Rewards of a prompt, besides the answer's own, from which the baseline is the prompt's own."""


class SessionPrompts:
    """The prompts of examples. Each is answered once.

    Args:
        reward: Scores answers; None: answers get the reward 0, which is replaced later.
    """

    def __init__(self, reward: RewardFunction | None) -> None:
        self._reward = reward

    def task(self, split: Split, index: int) -> Task:
        """Never called: a generation knows its tasks."""
        raise AssertionError("tasks are made from examples")

    def start(self, task: Task) -> Episode:
        """An episode that ends with its first answer."""
        return _OneAnswer(task, self._reward)


class _OneAnswer:
    def __init__(self, task: Task, reward: RewardFunction | None) -> None:
        self._task = task
        self._reward = reward

    def respond(self, text: str) -> Outcome:
        if self._reward is None:
            return Outcome(reward=0.0, terminated=True)
        example: Example = self._task.payload
        scored = call_user_code(
            partial(self._reward, example.prompt, text, example.text),
            failure=f"The reward function failed on {example.id}",
            remedy="Fix it.",
        )
        return Outcome(reward=as_reward(scored), terminated=True)


def task_of(example: Example) -> Task:
    """The prompt of an example as a task."""
    return Task(id=example.id, prompt=example.prompt, payload=example)


def as_trajectory(example: Example, reward: float) -> Trajectory:
    """The served answer as an episode."""
    completion = example.completion
    return Trajectory(
        task_id=example.id,
        messages=example.messages,
        completions=() if completion is None else (completion,),
        reward=reward,
        feedback=example.text,
        terminated=True,
        truncated=False,
    )


def advantages(
    examples: Sequence[Example],
    rewards: Sequence[float],
    earlier: Mapping[str, Sequence[float]],
) -> list[float]:
    """Reward of each answer less a baseline that leaves it out.

        A_i = r_i - mean of b

    where b are the rewards of other answers to the same prompt, in this generation or earlier ones,
    if there are at least `ENOUGH_OF_A_PROMPT`; otherwise those of all other answers of this
    generation. 0 without any.

    Args:
        earlier: Rewards of earlier generations by prompt.
    """
    by_prompt: dict[str, list[float]] = {}
    for example, reward in zip(examples, rewards, strict=True):
        by_prompt.setdefault(example.prompt_key, []).append(reward)
    total, found = sum(rewards), list[float]()
    for example, reward in zip(examples, rewards, strict=True):
        own = by_prompt[example.prompt_key]
        before = earlier.get(example.prompt_key, ())
        others = len(own) - 1 + len(before)
        if others >= ENOUGH_OF_A_PROMPT:
            baseline = (sum(own) - reward + sum(before)) / others
        elif len(rewards) > 1:
            baseline = (total - reward) / (len(rewards) - 1)
        else:
            baseline = reward
        found.append(reward - baseline)
    return found


def agreement(answers: Sequence[str | None], rejected: str) -> list[float]:
    """1 for second attempts that give the answer of more than half of them, else 0.

    The answer that the user rejected never counts. This is majority voting, as in
    arXiv:2504.16084: it says that reflections lead to one answer, not that the answer is right.

    Args:
        answers: Texts of the attempts at one prompt; None: failed or truncated.
        rejected: Text of the first attempt.
    """
    given = [None if answer is None else answer.strip() for answer in answers]
    votes = Counter(answer for answer in given if answer and answer != rejected.strip())
    if not votes:
        return [0.0] * len(given)
    winner, count = votes.most_common(1)[0]
    won = count > 1 and 2 * count > len(given)
    return [float(won and answer == winner) for answer in given]
