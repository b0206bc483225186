"""Figure 4 where replay has most to remove: a model that chooses among more experts.

In the model of the studies, which chooses 2 of 8 experts, routing is a small part of what the
weight pi_theta / mu_old is made of, so that replay has little to remove. These runs choose 2 of 32:
the candidate at which routing and stale routing have the largest share of its variance
(`benchmarks/choice_of_experts.py` has the rule and what it found). They are at the edge of
stability; nothing but the experts differs from the figure there, and the claims are the same.
"""

from steadyrl.lab.edge import at_the_edge
from steadyrl.lab.off_policy import figure4
from steadyrl.lab.study import Study, changed
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig

MORE_EXPERTS = SmallMoE(experts=32, experts_per_token=2)


def figure4_with_more_experts(numerics: Numerics) -> Study:
    """Eight gradient steps for each rollout, at the edge, with `MORE_EXPERTS`."""
    title = f"{MORE_EXPERTS.experts_per_token} of {MORE_EXPERTS.experts} experts"
    return at_the_edge(figure4, numerics).varied(_with_more_experts, level="experts", title=title)


def _with_more_experts(config: RunConfig) -> RunConfig:
    return changed(config, model=MORE_EXPERTS.model_dump())
