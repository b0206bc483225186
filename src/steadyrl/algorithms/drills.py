"""Supervised learning on drills: what the cold starts of Experiential RL have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.erl_control import SecondChance, SecondChanceSettings
from steadyrl.algorithms.protocol import Experience, MiniBatch
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.algorithms.supervised import demonstrated_episodes, maximum_likelihood
from steadyrl.engines.protocol import Engine
from steadyrl.environments.protocol import Environment, Split, Task
from steadyrl.learners.loss_term import LossTerm
from steadyrl.records.message import Conversation, Message
from steadyrl.rollout.seeds import derive_seed

Drill = tuple[Conversation, Conversation]
"""A prompt and how the conversation goes on."""

MakeDrill = Callable[[Task, np.random.Generator], Drill]


class Drills(ABC):
    """Drills of several kinds, each on a fresh task whose words have a meaning of its own.

    Args:
        closing_id: The token that closes every turn of the model.
    """

    samples_from_engine = False

    def __init__(
        self,
        environment: Environment,
        *,
        tokenizer: PreTrainedTokenizerBase,
        closing_id: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self._environment = environment
        self._conversation = SecondChance(
            environment, SecondChanceSettings(style=ReflectionStyle.COMPACT)
        )
        self._tokenizer = tokenizer
        self._closing_id = closing_id
        self._batch_size = batch_size
        self._seed = seed

    async def collect(self, step: int, engine: Engine) -> Experience:
        """Drills on fresh training tasks; the model's turns carry loss."""
        generator = np.random.default_rng(derive_seed(self._seed, step))
        drills = [
            self.drill(step * self._batch_size + number, generator)
            for number in range(self._batch_size)
        ]
        prompts, continuations = zip(*drills, strict=True)
        return demonstrated_episodes(prompts, continuations, self._tokenizer, self._closing_id)

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        """Mean negative log-likelihood of the tokens of the model's turns."""
        return maximum_likelihood(mini_batch)

    def drill(
        self, index: int, generator: np.random.Generator, split: Split = Split.TRAIN
    ) -> Drill:
        """The drill on task number `index` of `split`, of a kind that is drawn by the shares."""
        task = self._environment.task(split, index)
        shares, kinds = zip(*self.kinds(), strict=True)
        drawn = np.searchsorted(np.cumsum(shares), generator.random(), side="right")
        make: MakeDrill = kinds[int(drawn)]
        return make(task, generator)

    @abstractmethod
    def kinds(self) -> Sequence[tuple[float, MakeDrill]]:
        """Shares and kinds. The last kind takes what the others leave."""

    @abstractmethod
    def rulebook(self, task: Task) -> str:
        """What the drills call the rulebook of `task`."""


def answer(text: str) -> Conversation:
    """A continuation of one turn of the model."""
    return (Message(role="assistant", content=text),)
