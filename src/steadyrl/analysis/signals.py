"""Signals of trouble: which metrics are watched, and where their normal ranges end.

A run's notes, the report, `steadyrl diagnose` and the texts of the metrics all take their limits
from here, so a value is called healthy by all of them or by none.
"""

from collections.abc import Callable
from dataclasses import dataclass

from steadyrl.analysis.run_settings import RunSettings

WINDOW = 3
"""Steps in the shortest median: the fewest with which one outlier changes nothing."""

MAX_GROWTH = 10.0
"""Growth of mismatch KL and gradient norm over the first steps. Healthy learning moves them by
factors of 2 to 5, a collapse by orders of magnitude."""

NOTABLE_GROWTH = 3.0
"""Growth that sound runs reach now and then. It counts together with other evidence only."""

MAX_EXTREME_TOKENS = 0.1
"""arXiv:2510.11370 sees runs collapse as F(2) passes it. If top-p makes for more from the start,
the limit is twice the opening."""

MIN_ESS = 0.5
"""Effective sample size below which fewer than half of the tokens count."""

MAX_UPDATE_KL = 0.05
"""Nats per token by which one update may move the policy: five times the trust region of TRPO
(arXiv:1502.05477) in its authors' experiments. Sampled KLs have a heavy tail, and medians of sound
runs come up to that region itself."""

COLLAPSED_SHARE = 0.5
"""A run has collapsed when it has lost this share of its best reward, as in the studies."""

NOISE_UNITS = 4.0
"""Standard errors that a loss of reward must exceed. The best of many windows is high by chance, so
2 or 3 would not do."""

DOMINANT_SHARE = 0.5
"""Share of the mismatch, and of routes, from which on one explanation outweighs all others. Sound
engines lie near 0.01 of the one and, with deep models, near 0.1 of the other."""

MIN_TEMPERATURE_DIFFERENCE = 0.01
"""Relative difference of temperatures that a setting can cause; rounding causes less."""

MAX_SURPRISAL_Z = 6.0
"""Standard errors. The gap is a sum of thousands of uncorrelated terms, so noise stays below it."""

MIN_SURPRISAL_SHARE = 0.02
"""Share of the entropy below which a surprisal gap does no harm, however many tokens prove it."""

RAREST_SURPRISAL = 10.0
"""Mean surprisal in nats of the rarest tokens, which a filter cuts off. Probability that is known
to be out of the engine's reach accounts for a gap of this many times its size."""

STALE_SHARE = 0.05
"""Growth of the share of the mismatch that a temperature explains, and distance that its ratio
has moved. Rounding has no such slope: medians reach 0.04 in sound runs and in collapsed ones.
Sharpening without the engine grows to several tenths."""

MAX_ENVIRONMENT_FAILURES = 0.1
"""Share of episodes. A sound environment fails in none, a flaky service in a few."""

MAX_NO_SIGNAL = 0.9
"""Share of groups whose rewards are all equal. Sparse rewards come near it now and then."""

MIN_STEPS = 2 * WINDOW
"""Steps from which on a run can be called healthy: the fewest in which a lost reward is seen."""

NOISE_OF_ENDS = 2.0
"""Standard errors by which the ends of a curve must differ to be told apart."""

PATIENCE = 10
"""Steps that a run has to find a group with signal."""

MIN_UPDATE_REACHED = 0.5
"""Share of the masters' movement. It is 1 in expectation if rounding is unbiased, and was 0.01 to
0.2 where bfloat16 lost what was learned."""

MAX_FORGETTING = 0.1
"""Nats per token by which general texts may become less likely: a perplexity 1.1 times as large.
The measure has no sampling noise."""

MAX_TRUNCATED = 0.5
"""Share of episodes cut short, from which on the budget decides the reward more than the policy."""

MAX_REWARD_LOSS = 0.1
"""Share of its first reward that a run may lose without a remark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One end of a normal range.

    Example:
        Limit(value=0.5, meaning="half of the tokens")
    """

    value: float
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A metric whose running median has a normal range."""

    metric: str

    above: bool
    """Whether trouble lies above the limit, or below."""

    limit: Callable[[float, RunSettings], Limit | None]
    """The end of the range for the opening of a run and its settings; None: anything is normal."""

    cause: str = ""
    """The entry of `causes.toml` that the signal alone proves: a fault. Empty if what moved with it
    decides."""


def _growth(opening: float, _: RunSettings) -> Limit | None:
    if opening == 0:
        return None
    return Limit(value=MAX_GROWTH * opening, meaning="ten times its first steps")


def _extreme_tokens(opening: float, _: RunSettings) -> Limit:
    if 2 * opening > MAX_EXTREME_TOKENS:
        return Limit(value=2 * opening, meaning="twice its first steps")
    return Limit(value=MAX_EXTREME_TOKENS, meaning="one token in ten")


def _fixed(value: float, meaning: str) -> Callable[[float, RunSettings], Limit]:
    limit = Limit(value=value, meaning=meaning)
    return lambda _opening, _settings: limit


def _staleness(_opening: float, settings: RunSettings) -> Limit | None:
    """The staleness limit for a number of updates.

    After j updates in one direction the KL is j^2 times that of one, so its mean over mini-batches
    0 to N - 1 is that of one update times (N - 1)(2N - 1) / 6.
    """
    updates = settings.mini_batches
    if updates == 1:
        return None
    return Limit(
        value=MAX_UPDATE_KL * (updates - 1) * (2 * updates - 1) / 6,
        meaning=f"{MAX_UPDATE_KL} nats per update, with {updates} updates a rollout",
    )


SIGNALS = (
    Signal(metric="staleness_kl_k3", above=True, limit=_staleness),
    Signal(metric="mismatch_kl_k3", above=True, limit=_growth),
    Signal(metric="extreme_token_fraction", above=True, limit=_extreme_tokens),
    Signal(metric="ess", above=False, limit=_fixed(MIN_ESS, "half of the tokens")),
    Signal(metric="gradient_norm", above=True, limit=_growth),
    Signal(
        metric="environment_failed_fraction",
        above=True,
        limit=_fixed(MAX_ENVIRONMENT_FAILURES, "one episode in ten"),
        cause="environment",
    ),
    Signal(
        metric="update_reached_fraction",
        above=False,
        limit=_fixed(MIN_UPDATE_REACHED, "half of the movement"),
        cause="lost_updates",
    ),
    Signal(
        metric="engine_update_reached_fraction",
        above=False,
        limit=_fixed(MIN_UPDATE_REACHED, "half of the movement"),
        cause="lost_engine_updates",
    ),
)
"""Signals with a range of their own. `departures` also reads entropy and reward, which only mean
trouble together, or by their course."""
