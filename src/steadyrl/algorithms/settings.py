"""Base class of algorithm settings."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.protocol import Algorithm
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.variants import Variant
from steadyrl.engines.protocol import Engine, Sampling
from steadyrl.environments.protocol import Environment
from steadyrl.environments.settings import EnvironmentSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmContext:
    """Components that an algorithm works with.

    Example:
        AlgorithmContext(environment=quiz, tokenizer=tokenizer, sampling=Sampling(), seed=7)
    """

    environment: Environment
    tokenizer: PreTrainedTokenizerBase
    sampling: Sampling
    seed: int

    max_positions: int | None = None
    """Maximum tokens of a prompt and its response together; None: no limit."""

    make_engine: Callable[[], Engine] | None = None
    """Makes another engine with the settings of the run and the policy's weights."""

    progress: Progress = NO_PROGRESS


class AlgorithmSettings(Variant):
    """Base class of algorithm settings."""

    @abstractmethod
    def make(self, context: AlgorithmContext) -> Algorithm:
        """The algorithm.

        Raises:
            UserError: the algorithm cannot work with `context`; the message gives the reason.
        """

    @property
    def gradient_steps(self) -> int:
        """Optimizer steps per rollout."""
        return 1

    @property
    def needs_reference(self) -> bool:
        """Whether it uses the initial weights of the stage."""
        return False

    @property
    def scores_routers(self) -> bool:
        """Whether its objective reads router shifts."""
        return False

    @property
    def reads_candidates(self) -> int:
        """Number of most probable tokens of the engine that its objective reads; 0: none."""
        return 0

    @property
    def staleness_unsupported_reason(self) -> str | None:
        """Reason why it cannot train on rollouts of older weights, with the settings of its own to
        change; None: it can.
        """
        return None

    def learned_samplings(self) -> Mapping[str, Sampling]:
        """Sampling parameters of trained texts besides the run's own `sampling`.

        Keys are setting paths, as in `reflection.sampling`.
        """
        return {}

    def check_fits(self, environment: EnvironmentSettings) -> None:
        """Checks that it can run whole episodes of `environment`.

        Raises:
            ValueError: it cannot; the message gives the remedy.
        """
