"""An engine whose syncs are verified."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.engines.canary import Canary, CanaryError, CanarySettings, EngineReading, read_engine
from steadyrl.engines.protocol import (
    Engine,
    EngineCapabilities,
    Request,
    SupportsRestarts,
    SupportsSyncMeasurement,
    SupportsTokenStreams,
    SupportsWeightComparison,
    TokenListener,
)
from steadyrl.learners.probe_scores import probe_scores
from steadyrl.learners.protocol import Learner
from steadyrl.policies.reach import Reach
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import WeightSource

_MOST_NAMED = 8
"""Maximum number of tensors named in a message."""


@runtime_checkable
class ReadsLater(Protocol):
    """An engine that may be busy when it receives weights, and answers later."""

    def begin_reading(self, probes: Sequence[Int[Tensor, " T"]]) -> Callable[[], EngineReading]:
        """Begins a reading with the weights that were sent last; the result waits for it."""
        ...


class CheckedEngine:
    """An engine whose scores of fixed probes are compared with the learner's after its syncs.

    A failed sync raises a `CanaryError`. If the engine reads the probes later, the error is raised
    by the next call, before anything is learned from what was sampled in between.
    """

    def __init__(
        self,
        engine: Engine,
        learner: Learner,
        probes: Sequence[Int[Tensor, " T"]],
        settings: CanarySettings,
    ) -> None:
        self.engine = engine
        self.sync_metrics: dict[str, float] = {}
        """Metrics of the last check."""

        self.probes = probes
        self._learner = learner
        self._every = settings.every
        self._canary = Canary(settings)
        self._syncs = 0
        self._pending: tuple[Callable[[], EngineReading], Float[Tensor, " N"], int] | None = None

    @property
    def capabilities(self) -> EngineCapabilities:
        """Capabilities of the engine."""
        return self.engine.capabilities

    @property
    def policy_version(self) -> int:
        """Version of the weights it received last."""
        return self.engine.policy_version

    @property
    def reach(self) -> Reach | None:
        """Share of the last update that arrived in the engine; None if unknown."""
        return self.engine.reach if isinstance(self.engine, SupportsSyncMeasurement) else None

    def begin_stage(self) -> None:
        """Resets the normal range: a cold start changes it more than any fault."""
        self._compare_pending()
        self._canary.reset()
        self._syncs = 0

    async def generate(self, request: Request) -> list[Completion]:
        """The answers to `request`."""
        self._compare_pending()
        return await self.engine.generate(request)

    @property
    def streams_tokens(self) -> bool:
        """Whether the engine reports tokens as they are sampled."""
        return isinstance(self.engine, SupportsTokenStreams) and self.engine.streams_tokens

    async def stream(self, request: Request, listener: TokenListener) -> list[Completion]:
        """The answers to `request`, whose tokens `listener` receives as they are sampled."""
        assert isinstance(self.engine, SupportsTokenStreams), "the engine streams tokens"
        self._compare_pending()
        return await self.engine.stream(request, listener)

    async def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """Log-probability of every given token after those before it."""
        self._compare_pending()
        return await self.engine.score(sequences)

    async def sync(self, weights: WeightSource) -> None:
        """Sends the learner's present weights to the engine, and verifies that it uses them.

        Raises:
            CanaryError: engine and learner do not compute the same.
        """
        self._compare_pending()
        await self.engine.sync(weights)
        due, self._syncs = self._syncs % self._every == 0, self._syncs + 1
        if not due:
            self.sync_metrics = {}
            return
        started = time.perf_counter()
        if isinstance(self.engine, ReadsLater):
            reading = self.engine.begin_reading(self.probes)
            self._pending = (reading, probe_scores(self._learner, self.probes), weights.version)
            return
        await self._check(weights)
        self.sync_metrics["canary_seconds"] = time.perf_counter() - started

    def take_restarts(self) -> Sequence[str]:
        """A sentence about each restart of the engine since the last call."""
        return self.engine.take_restarts() if isinstance(self.engine, SupportsRestarts) else ()

    def close(self) -> None:
        """Closes the engine."""
        close = getattr(self.engine, "close", None)
        if close is not None:
            close()

    async def _check(self, weights: WeightSource) -> None:
        engine = self.engine if isinstance(self.engine, SupportsWeightComparison) else None
        try:
            reading = await read_engine(self.engine, self.probes)
            scores = probe_scores(self._learner, self.probes)
            self.sync_metrics = self._canary.compare(reading, scores, weights.version)
            if self._syncs == 1 and _differs_cheaply(engine, weights):
                raise CanaryError("The first sync left the engine with other weights.")
        except CanaryError as error:
            names = None if engine is None else engine.differing_tensors(weights)
            raise CanaryError(f"{error} {_tensors(names)}") from error

    def _compare_pending(self) -> None:
        """Compares the reading that began at the last sync."""
        if self._pending is not None:
            (reading, trainer, version), self._pending = self._pending, None
            try:
                self.sync_metrics = self._canary.compare(reading(), trainer, version)
            except CanaryError as error:
                raise CanaryError(f"{error} {_tensors(None)}") from error


def _differs_cheaply(engine: SupportsWeightComparison | None, weights: WeightSource) -> bool:
    """Whether a comparison of the engine's tensors with `weights`, if it is cheap, finds others."""
    if engine is None or not engine.compares_cheaply:
        return False
    return bool(engine.differing_tensors(weights))


def _tensors(names: list[str] | None) -> str:
    if names is None:
        return (
            "This engine does not show its tensors. Check how it receives weights, and resume the "
            "run from its last checkpoint."
        )
    if not names:
        return (
            "All of its tensors are those that were sent, so that it computes something else with "
            "them. Try another version of the engine, or other engine settings."
        )
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (
        f"Tensors of the engine that differ from those that were sent: "
        f"{', '.join(names[:_MOST_NAMED])}{more}. Resume the run from its last checkpoint; if they "
        "differ again, update the engine, or use engine 'local'."
    )
