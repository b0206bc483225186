"""Engine in this process, ranks on this machine."""

from steadyrl.base.progress import Progress
from steadyrl.engines.protocol import Engine
from steadyrl.learners.fsdp.hosts import RankHost
from steadyrl.policies.policy import Policy
from steadyrl.run.components import make_engine
from steadyrl.run.config import RunConfig


class Embedded:
    """Everything on this machine. See `Placement` for what each method does."""

    rank_host: RankHost | None = None

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    def engine(self, policy: Policy, progress: Progress) -> Engine:
        """The engine of the run."""
        return make_engine(self._config, policy, progress=progress)

    def close(self) -> None:
        """Holds nothing."""
