"""Sources of log(pi_theta / mu_old), by rescoring with one change at a time.

batch -> rescore (every pass) -> mismatch_sources (what each change is worth)
"""

from steadyrl.analysis.mismatch.layers import LayerFlips
from steadyrl.analysis.mismatch.passes import Order, Rescored, Source, rescore
from steadyrl.analysis.mismatch.sources import Change, MismatchSources, mismatch_sources

__all__ = [
    "Change",
    "LayerFlips",
    "MismatchSources",
    "Order",
    "Rescored",
    "Source",
    "mismatch_sources",
    "rescore",
]
