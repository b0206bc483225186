"""What the settings of every algorithm have in common."""

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
    """What an algorithm works with.

    Example:
        AlgorithmContext(environment=quiz, tokenizer=tokenizer, sampling=Sampling(), seed=7)
    """

    environment: Environment
    tokenizer: PreTrainedTokenizerBase
    sampling: Sampling
    seed: int

    max_positions: int | None = None
    """Tokens that a prompt and its answer may have together; None: no limit."""

    make_engine: Callable[[], Engine] | None = None
    """Makes another engine of the run's kind, holding the policy's weights."""

    progress: Progress = NO_PROGRESS


class AlgorithmSettings(Variant):
    """Settings that make an algorithm: what is sampled in each step, and how it is learned from."""

    @abstractmethod
    def make(self, context: AlgorithmContext) -> Algorithm:
        """The algorithm.

        Raises:
            UserError: it cannot work with `context`; the message says why.
        """

    @property
    def gradient_steps(self) -> int:
        """Optimizer steps for each rollout."""
        return 1

    @property
    def needs_reference(self) -> bool:
        """Whether it reads the weights with which the stage began."""
        return False

    @property
    def overlap_unsupported_reason(self) -> str | None:
        """Why it cannot learn from rollouts sampled with older weights in another process, and
        what to change; None: it can.
        """
        return None

    def learned_samplings(self) -> Mapping[str, Sampling]:
        """How texts are drawn that it learns from besides those of the run's own `sampling`.

        By the setting that says so, as `reflection.sampling`.
        """
        return {}

    def check_fits(self, environment: EnvironmentSettings) -> None:
        """Returns where it can play whole episodes of `environment`.

        Raises:
            ValueError: it cannot; the message says what to change.
        """
