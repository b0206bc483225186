"""Questions to a setup before it trains, measured on a short rollout and one discarded update.

plan memory -> load -> sample 32 prompts -> compare engine and trainer -> judge answers that are
known to be right or wrong -> update once -> sync -> Report
"""

from steadyrl.preflight.report import Report
from steadyrl.preflight.survey import PreflightSettings, preflight

__all__ = ["PreflightSettings", "Report", "preflight"]
