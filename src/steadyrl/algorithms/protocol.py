"""Interface of algorithms, which plan the rollout of a step and learn from its episodes.

    plan        step -> tasks                    a function of the step alone
    play        plan, engine -> rollout          episodes, in whichever process the loop chooses
    learn       rollout -> mini-batches          one optimizer step for each
    loss_terms  mini-batch -> loss terms         their sum is minimized

The training loop decides when each rollout is played and with which weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from steadyrl.engines.protocol import Engine
from steadyrl.environments.protocol import Task
from steadyrl.learners.loss_term import LossTerm
from steadyrl.records.memory_write import MemoryWrite
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group
from steadyrl.records.weight_source import WeightSource

MiniBatch = tuple[TokenBatch, ...]
"""The batches of one optimizer step: at least one, each of rows that are treated alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Tasks and seeds of one step.

    Example:
        Plan(step=3, tasks=tuple(tasks), seed=derive_seed(seed, 3))
    """

    step: int
    tasks: tuple[Task, ...]

    seed: int
    """Every random number of the rollout derives from it."""

    first: int = 0
    """Number of the first of `tasks` within the step."""

    is_part: bool = False
    """Whether the step has more tasks than these."""

    @property
    def parts(self) -> tuple["Plan", ...]:
        """A plan for each task, with the same random numbers as in the whole."""
        return tuple(
            replace(self, tasks=(task,), first=number, is_part=True)
            for number, task in enumerate(self.tasks, start=self.first)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Episodes of one step. An algorithm whose `learn` needs more extends this class.

    A rollout may be sent between processes, so its fields must be picklable.
    """

    groups: tuple[Group, ...] = ()
    """All episodes, including those that cannot be learned from."""

    failures: tuple[str, ...] = ()
    """Why tasks or demonstrations are missing from `groups`."""

    memory_writes: tuple[MemoryWrite, ...] = ()
    """Entries that the algorithm wrote to its memory."""

    policy_version: int = 0
    """Version of the weights that sampled it, the oldest if there are several; set by the
    sampler."""

    mean_version: float | None = None
    """Mean version over its tokens, from a sampler that uses several; None: `policy_version`."""

    seconds: float = 0.0
    """Wall time of sampling; set by the sampler."""

    dropped: tuple[Group, ...] | None = None
    """Groups that were dropped since the step before, because they were late; None: the sampler
    never drops any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """Training data of one step: one optimizer step for each mini-batch."""

    mini_batches: tuple[MiniBatch, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)

    notes: tuple[str, ...] = ()
    """Sentences about unexpected outcomes of the step. The run records each once."""


@runtime_checkable
class Algorithm(Protocol):
    """Plans rollouts, plays them and turns them into loss terms."""

    samples_from_engine: bool
    """Whether `play` samples from the engine, which then needs new weights after each step."""

    def plan(self, step: int) -> Plan:
        """The tasks of step `step`, which depend on nothing but the step."""
        ...

    async def play(self, plan: Plan, engine: Engine) -> Rollout:
        """Plays the planned tasks.

        Rollouts are played one after another in the order of their steps, however far they are
        sampled ahead. So an algorithm with a memory reads in each rollout exactly what all earlier
        rollouts have written.
        """
        ...

    def learn(self, rollout: Rollout) -> Experience:
        """The mini-batches made from a rollout, which may have been played in another process."""
        ...

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        """The terms whose sum one optimizer step minimizes."""
        ...


@runtime_checkable
class SupportsParts(Protocol):
    """An algorithm whose `play` may be given each task of a plan by itself."""

    @property
    def plays_parts(self) -> bool:
        """Whether the rollout of a step is that of the `parts` of its plan, joined in order."""
        ...


@runtime_checkable
class SupportsReference(Protocol):
    """An algorithm that may sample from the weights at the beginning of its stage."""

    async def take_reference(self, reference: WeightSource) -> None:
        """Receives these weights, which are not trained, before the first step."""
        ...


@runtime_checkable
class SupportsState(Protocol):
    """An algorithm whose `play` changes a state, such as a memory."""

    def state(self) -> Any:
        """The state, as values that JSON can represent."""
        ...

    def load_state(self, state: Any) -> None:
        """Restores what `state()` returned.

        Raises:
            UserError: the state belongs to an algorithm with other settings.
        """
        ...
