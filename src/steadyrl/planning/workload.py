"""The work of one step: what is sampled, what is trained on, and in how many updates."""

from dataclasses import dataclass

from steadyrl.planning.lengths import ResponseLengths


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRow:
    """A row that is trained on, in mean.

    Example:
        TrainedRow(length=2256, computed=2016, answered=2000)
    """

    length: float
    """Tokens that attention sees."""

    computed: float
    """Positions that are computed, less than `length` where rows share their prompt."""

    answered: float
    """Tokens with a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The work of one step.

    Example:
        Workload.of(config, PlanSettings(gpus="64xH100"))
    """

    sequences: int
    """Sequences that are sampled at the same time."""

    group: int
    """Sequences that share a prompt, which is read once for all of them."""

    prompt: int
    """Tokens that are read before a sequence begins."""

    lengths: ResponseLengths
    """Tokens that are sampled of each sequence."""

    rows: tuple[TrainedRow, ...]
    """Rows that come from each sequence."""

    updates: int
    """Optimizer steps."""

    reference: bool
    """Whether a reference policy scores all rows."""

    steps_ahead: int
    """Steps by which rollouts may be sampled ahead of the updates."""

    @property
    def tokens(self) -> float:
        """Tokens of all rows."""
        return self.sequences * sum(row.length for row in self.rows)

    @property
    def sampled(self) -> float:
        """Tokens that are sampled."""
        return self.sequences * self.lengths.mean
