"""The control of Experiential RL: plain reinforcement learning that reads the same feedback."""

from collections.abc import Awaitable
from math import fsum
from typing import Literal

from pydantic import Field

from steadyrl.algorithms.policy_gradient import CreditSettings, PolicyGradient
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.algorithms.settings import AlgorithmContext
from steadyrl.base.concurrency import apply_when_done
from steadyrl.base.errors import UserError
from steadyrl.environments.protocol import (
    Environment,
    Episode,
    Outcome,
    Split,
    SupportsGroupScores,
    Task,
)
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.records.message import Message
from steadyrl.rollout.tasks import check_outcome, distinct_tasks, make_tasks, start_episode


class SecondChanceSettings(CreditSettings):
    """Policy gradient on episodes in which a failed attempt is followed by its feedback and by
    another attempt. Held-out tasks are attempted once.
    """

    name: Literal["second_chance"] = "second_chance"

    threshold: float = Field(1.0, allow_inf_nan=False)
    """An attempt whose reward is below it is repeated, once."""

    style: ReflectionStyle = ReflectionStyle.RULEBOOK
    """compact: the feedback and the task alone, for models that read characters."""

    def check_fits(self, environment: EnvironmentSettings) -> None:
        """Checks that both attempts of an episode can be completed."""
        environment.require_turns("algorithm.max_turns", self.max_turns, attempts=2)

    def make(self, context: AlgorithmContext) -> PolicyGradient:
        """The algorithm."""
        environment = SecondChance(context.environment, threshold=self.threshold, style=self.style)
        return PolicyGradient(
            self,
            environment=environment,
            tokenizer=context.tokenizer,
            sampling=context.sampling,
            seed=context.seed,
            progress=context.progress,
        )


class SecondChance:
    """An environment in which a failed attempt is followed by its feedback and by another attempt.

    Both stand in one conversation, whose reward is that of the last attempt. So a policy that is
    reinforced in it has seen what a reflection sees, without reflecting, remembering or
    internalizing. A truncated conversation keeps the reward of the current attempt. Unlike
    Experiential RL, which reflects on attempts cut at the token budget too, it gives them no second
    one: a turn that is no whole answer ends the conversation.

    Raises:
        UserError: the environment scores episodes by comparing them.
    """

    def __init__(
        self, environment: Environment, *, threshold: float = 1.0, style: ReflectionStyle
    ) -> None:
        if isinstance(environment, SupportsGroupScores):
            raise UserError(
                f"{type(environment).__name__} scores the attempts of a group together, which a "
                "second chance in the same conversation does not allow. Choose another algorithm."
            )
        self._environment = environment
        self._threshold = threshold
        self._style = style

    def task(self, split: Split, index: int) -> Task:
        """The environment's task."""
        (task,) = make_tasks(self._environment, split, [index])
        return task

    def distinct_tasks(self, split: Split) -> int | None:
        """The environment's number of distinct tasks."""
        return distinct_tasks(self._environment, split)

    def start(self, task: Task) -> Episode:
        """An episode of up to two attempts."""
        return _UpToTwoAttempts(self._environment, task, self._threshold, self._style)


class _UpToTwoAttempts:
    def __init__(
        self, environment: Environment, task: Task, threshold: float, style: ReflectionStyle
    ) -> None:
        self._environment = environment
        self._task = task
        self._threshold = threshold
        self._style = style
        self._attempt = start_episode(environment, task)
        self._is_second = False
        self._rewards: list[float] = []
        self._feedback: list[str] = []

    def respond(self, text: str) -> Outcome | Awaitable[Outcome]:
        """The outcome of one turn. A second attempt begins by taking back what the first earned."""
        return apply_when_done(self._attempt.respond(text), self._after)

    def _after(self, given: Outcome) -> Outcome:
        outcome = check_outcome(given)
        self._rewards.append(outcome.reward)
        self._feedback.append(outcome.feedback)
        earned = fsum(self._rewards)
        failed = earned < self._threshold
        if outcome.terminated and failed and not self._is_second:
            return self._second_chance(outcome)
        return outcome

    def _second_chance(self, outcome: Outcome) -> Outcome:
        said = "\n".join([line for line in self._feedback if line])
        asked = "\n".join([m.content for m in self._task.prompt if m.role != "system"])
        if self._style is ReflectionStyle.COMPACT:
            content = f"{said}\n{asked}"
        else:
            content = f"Feedback:\n{said}\n\nTry the same task once more.\n\n{asked}"
        self._attempt = start_episode(self._environment, self._task)
        taken_back = outcome.reward - fsum(self._rewards)
        self._is_second, self._rewards = True, []
        again = Message(role="user", content=content)
        return Outcome(
            reward=taken_back, terminated=False, observation=(again,), feedback=outcome.feedback
        )
