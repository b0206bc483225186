"""Interface of an HTTP server that can be a rollout engine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.engines.answers import Answer
from steadyrl.engines.protocol import Sampling

Value = TypeVar("Value", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedWeights:
    """Weights in folders that the server can read.

    Example:
        SyncedWeights(tag="steadyrl-9f2c-4", version=3, folder=Path("/shared/steadyrl-x/4"))
    """

    tag: str
    """Name of this load, never used twice. A server that restarts forgets it, so a server that has
    it holds these weights."""

    version: int
    folder: Path
    """Checkpoint folder with all weights of the model."""

    adapter: Path | None = None
    """Folder of the LoRA adapter on top of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Generic[Value]):
    """A reply of a server."""

    value: Value
    tag: str | None
    """Tag of the weights on the server when it replied; None: the reply does not say."""


@runtime_checkable
class ServerApi(Protocol):
    """HTTP interface of an inference server. Every method may raise `ServerError`."""

    @property
    def name(self) -> str:
        """Name of the software."""
        ...

    @property
    def url(self) -> str:
        """Address of the server."""
        ...

    async def generate(
        self, prompt_ids: list[int], sampling: Sampling, seed: int, weights: SyncedWeights
    ) -> Reply[Answer]:
        """Samples one answer."""
        ...

    async def score(
        self, tokens: Int[Tensor, " T"], weights: SyncedWeights
    ) -> Reply[Float[Tensor, " T"]]:
        """Log-probability of each token given its predecessors; 0 for the first one."""
        ...

    async def load(self, weights: SyncedWeights) -> None:
        """Aborts running requests, replaces the weights, drops caches and sets the tag."""
        ...

    async def loaded_tag(self) -> str:
        """Tag of the weights on the server; its default if it has restarted since the last load."""
        ...
