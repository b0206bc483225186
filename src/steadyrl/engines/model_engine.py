"""Base class of engines with a model in this process."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.base.progress import Progress
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.protocol import EngineCapabilities, Request
from steadyrl.engines.stepped import SteppedEngine
from steadyrl.policies.reach import Reach
from steadyrl.records.weight_source import WeightSource


class ModelEngine(SteppedEngine):
    """An engine whose weights, scores and capabilities are those of an `EngineModel`.

    Args:
        score_positions: Maximum positions of a scoring pass, padding included. A longer sequence
            has its own pass.
    """

    def __init__(self, model: EngineModel, *, score_positions: int, progress: Progress) -> None:
        super().__init__()
        self._model = model
        self._score_positions = score_positions
        self._generated = GenerationProgress(progress=progress)

    @property
    def capabilities(self) -> EngineCapabilities:
        """Capabilities of the engine."""
        return self._model.capabilities

    @property
    def policy_version(self) -> int:
        """Version of the current weights."""
        return self._model.policy_version

    @property
    def reach(self) -> Reach | None:
        """Share of the trainer's last update that reached the engine."""
        return self._model.reach

    compares_cheaply = True

    def differing_tensors(self, weights: WeightSource) -> list[str]:
        """Names of tensors that differ from `weights`, rounded in the same way."""
        return self._model.differing_tensors(weights)

    async def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """Log-probability of every token given those before it, at temperature 1."""
        return self._model.score(sequences, self._score_positions)

    async def sync(self, weights: WeightSource) -> None:
        """Loads a learner's weights."""
        self._model.sync(weights)


@dataclass(slots=True, kw_only=True)
class GenerationProgress:
    """Numbers of completions and tokens since the engine was last idle, reported to a listener."""

    progress: Progress
    answers: int = 0
    tokens: int = 0
    requested: int = 0
    budget: int = 0

    def start(self, request: Request, *, first: bool) -> None:
        """Adds a request; `first` if the engine was idle."""
        if first:
            self.answers = self.tokens = self.requested = self.budget = 0
        self.requested += request.num_completions
        self.budget += request.num_completions * request.sampling.max_new_tokens

    def report(self, *, answers: int, tokens: int) -> None:
        """Adds finished completions and sampled tokens."""
        self.answers += answers
        self.tokens += tokens
        self.progress.advance(
            "answers", self.answers, self.requested, tokens=self.tokens, most_tokens=self.budget
        )
