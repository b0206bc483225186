"""Interface of placements: who starts engines and ranks, and ends them."""

from typing import Protocol, runtime_checkable

from steadyrl.base.progress import Progress
from steadyrl.engines.protocol import Engine
from steadyrl.learners.fsdp.hosts import RankHost
from steadyrl.policies.policy import Policy


@runtime_checkable
class Placement(Protocol):
    """Starts the parts of a run. It outlives them."""

    @property
    def rank_host(self) -> RankHost | None:
        """Where the ranks of a sharded learner run; None: on this machine."""
        ...

    def engine(self, policy: Policy, progress: Progress) -> Engine:
        """The engine of the run.

        Raises:
            UserError: it does not support the model, or is not installed where it runs.
        """
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...
