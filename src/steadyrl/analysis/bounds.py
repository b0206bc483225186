"""Ends of normal ranges. Diagnosis, report, texts of metrics and documents all take them from here.

A value inside its range is called healthy everywhere, and one outside nowhere.
"""

TENFOLD = 10.0
"""Growth over the first steps, of mismatch KL and gradient norm. Healthy learning moves them by
factors of 2 to 5, a collapse by orders of magnitude."""

EXTREME_TOKENS = 0.1
"""arXiv:2510.11370 sees runs collapse as F(2) passes it. Where top-p makes for more from the start,
it is twice the opening that counts."""

HALF_THE_TOKENS = 0.5
"""Below this effective sample size, fewer than half of the tokens count."""

KL_OF_AN_UPDATE = 0.05
"""Nats per token by which one update may move the policy: five times the trust region of TRPO
(arXiv:1502.05477) in its authors' experiments. Sampled KLs have a heavy tail, and medians of sound
runs come up to that region itself."""

LOST_SHARE = 0.5
"""A run has collapsed when it has lost this share of its best reward, as in the studies."""

HALF = 0.5
"""Share of the mismatch, and of routes, from which on one explanation outweighs all others. Sound
engines lie near 0.01 of the one and, with deep models, near 0.1 of the other."""

SMALLEST_TEMPERATURE = 0.01
"""Relative difference of temperatures that a setting could be to blame for; rounding makes less."""

SURPRISAL_NOISE = 6.0
"""Standard errors. The gap is a sum of thousands of uncorrelated terms, so noise stays below it."""

MANY_FAILURES = 0.1
"""Share of episodes. A sound environment fails in none, a flaky service in a few."""

WITHOUT_SIGNAL = 0.9
"""Share of groups whose rewards are all equal. Sparse rewards come near it now and then."""

REACHED = 0.5
"""Share of the masters' movement. It is 1 in expectation where rounding is unbiased, and was 0.01
to 0.2 where bfloat16 lost what was learned."""

FORGOTTEN = 0.1
"""Nats per token by which general texts may become less likely: a perplexity 1.1 times as large.
The measure has no sampling noise."""

TRUNCATED = 0.5
"""Share of episodes cut short, from which on the budget decides the reward more than the policy."""
