"""The engine of a rollout process, as the other parts of a run know engines."""

from collections.abc import Callable, Sequence
from functools import cached_property

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.engines.canary import EngineReading
from steadyrl.engines.protocol import EngineCapabilities, Request
from steadyrl.engines.stepped import SteppedEngine
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import WeightSource, full_weights
from steadyrl.run.rollout_process import RolloutProcess


class RemoteEngine(SteppedEngine):
    """Has the requests that came before a step answered together, in that step."""

    def __init__(self, process: RolloutProcess) -> None:
        super().__init__()
        self._process = process
        self.policy_version = -1
        self._requests: dict[int, Request] = {}
        self._submitted = 0

    @cached_property
    def capabilities(self) -> EngineCapabilities:
        """Capabilities of the engine."""
        capabilities: EngineCapabilities = self._process.ask("capabilities").result()
        return capabilities

    def submit(self, request: Request) -> int:
        """Takes a request; returns the number under which its answers come."""
        number = self._submitted
        self._submitted += 1
        self._requests[number] = request
        return number

    def step(self) -> dict[int, list[Completion]]:
        """The answers to all requests."""
        asked, self._requests = self._requests, {}
        answers = self._process.ask("generate", list(asked.values())).result()
        return dict(zip(asked, answers, strict=True))

    def withdraw(self, number: int) -> None:
        """Forgets a request."""
        self._requests.pop(number, None)

    async def score(self, sequences: Sequence[Int[Tensor, " _T"]]) -> list[Float[Tensor, " _T"]]:
        """Log-probability of every given token after those before it, at temperature 1."""
        scores: list[Float[Tensor, " _T"]] = self._process.ask("score", sequences).result()
        return scores

    def begin_reading(self, probes: Sequence[Int[Tensor, " T"]]) -> Callable[[], EngineReading]:
        """Asks for a reading with the weights that were sent last; the result waits for it."""
        return self._process.ask("read", list(probes)).result

    async def sync(self, weights: WeightSource) -> None:
        """Hands the weights of a learner on."""
        self._process.load_weights(dict(full_weights(weights).tensors("model")), weights.version)
        self.policy_version = weights.version
