"""What a comparison finds: names, reasons and remedies, with texts of `findings.toml`."""

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

from steadyrl.analysis.causes import CauseName

_TEXTS = tomllib.loads(
    (files("steadyrl.analysis") / "dumps" / "findings.toml").read_text(encoding="utf-8")
)


class DumpCause(StrEnum):
    """Why engine and trainer differ, as far as their log-probabilities show."""

    NON_FINITE = "overflow"
    SATURATION = "saturation"
    UNRECORDED = "log-probabilities of a side are all 0"
    PADDING = "padding is counted"
    MASK = "mask off by one"
    SEQUENCE_VALUES = "values of sequences, not of tokens"
    DIVIDED = "divided by the length"
    UNIT = "log-probabilities in another unit"
    SHIFTED = "log-probabilities of the neighboring token"
    PERMUTED = "rows permuted"
    BOS = "BOS doubled"
    TEMPLATE = "different prompts"
    ROUTES = CauseName.ROUTES
    TEMPERATURE = CauseName.TEMPERATURE
    FILTER = "top-p or top-k in the engine alone"
    SAMPLING = CauseName.SAMPLING
    STALE = CauseName.STALE_ENGINE
    OTHER_POLICY = CauseName.OTHER_POLICY
    ROUTING = CauseName.ROUTING
    NUMERICS = CauseName.NUMERICS


SOUND = frozenset({DumpCause.ROUTING, DumpCause.NUMERICS})
"""Sources of a mismatch that sound setups have too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A cause, what shows it, and what to change."""

    cause: DumpCause
    reason: str
    """The property of sound dumps, and how this one violates it."""

    change: str

    @classmethod
    def of(cls, cause: DumpCause, entry: str = "", **words: Any) -> "Finding":
        """The finding of an entry of `findings.toml`, with `words` filled in.

        Args:
            entry: Name of the entry; empty: that of the cause.
        """
        texts = _TEXTS[entry or cause.name.lower()]
        reason, change = (
            " ".join(texts[key].split()).format(**words) for key in ("reason", "change")
        )
        return cls(cause=cause, reason=reason, change=change)

    @property
    def is_fault(self) -> bool:
        """Whether the setup is wrong."""
        return self.cause not in SOUND
