"""Every study by its name. Some vary a figure or a world, and nothing else:

edge        Where runs do collapse. At the learning rate of the studies hardly any run does, so
            there is little for importance sampling, clipping or replay to prevent. This is the
            smallest candidate of `learning_rate` that its rule refuses, at which on-policy MiniRL
            no longer keeps 95% of its best reward.
any-norm    The paper does not say whether it clips the norm of its gradients. The studies clip it
            at 1, as is usual, and a sum over tokens exceeds that at nearly every step, an average
            over them far less often: objectives then differ in how much of their gradient's size is
            left to them too. These studies clip no norm.
experts     Where replay has most to remove. In the model of the studies, which chooses 2 of 8
            experts, routing is a small part of what the weight pi_theta / mu_old is made of. Of 2
            of 32, routing and stale routing have the largest share of its variance
            (`benchmarks/choice_of_experts.py` has the rule and what it found).
frozenlake  Lakes of nine cells, whose goal is two moves away at most.
sokoban     Rooms of sixteen cells and walls, won in two moves at most.
questions   Multi-hop questions in words that nobody explains. One guess in twelve is right, so that
            the twelve attempts of reinforcement alone find one answer between them to begin with.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from steadyrl.lab.baselines import baselines
from steadyrl.lab.cold_starts import figure5
from steadyrl.lab.dense_twin import dense_twin
from steadyrl.lab.dials import routing_noise, staleness, step_size, weight_noise
from steadyrl.lab.dose import DoseStudy, dose_study
from steadyrl.lab.dose_corrections import corrections
from steadyrl.lab.dose_diagram import (
    routing_noise_by_learning_rate,
    weight_noise_by_staleness,
)
from steadyrl.lab.dose_router_shift import router_shift
from steadyrl.lab.dose_sweeps import depth, length, trainer_type
from steadyrl.lab.dose_world import dose_learning_rate
from steadyrl.lab.experiential import experiential_study
from steadyrl.lab.learning_rate import CANDIDATES, learning_rate_choice
from steadyrl.lab.off_policy import figure2, figure3, figure4
from steadyrl.lab.on_policy import figure1
from steadyrl.lab.peaks import peaks
from steadyrl.lab.rule import WORLDS, RuleStudy, rule_study
from steadyrl.lab.sparse_rewards import WORLDS as SPARSE_WORLDS
from steadyrl.lab.sparse_rewards import sparse_rewards
from steadyrl.lab.stale_rollouts import stale_rollouts
from steadyrl.lab.study import Study, changed
from steadyrl.lab.world import LEARNING_RATE
from steadyrl.lab.worlds.experiential_recipes import (
    erl_frozenlake_tiny,
    erl_questions_tiny,
    erl_sokoban_tiny,
)
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig

MakeStudy = Callable[[Numerics], Study]

EDGE = min(rate for rate in CANDIDATES if rate > LEARNING_RATE)
"""The learning rate at the edge of stability."""

MORE_EXPERTS = SmallMoE(experts=32, experts_per_token=2)
"""The model in which replay has most to remove."""

VARIATIONS: dict[str, tuple[str, Mapping[str, Mapping[str, Any]]]] = {
    "edge": (f"learning rate {EDGE:.0e}", {"optimizer": {"learning_rate": EDGE}}),
    "any-norm": ("gradients of any norm", {"optimizer": {"gradient_clip": math.inf}}),
    "experts": (
        f"{MORE_EXPERTS.experts_per_token} of {MORE_EXPERTS.experts} experts",
        {"model": MORE_EXPERTS.model_dump()},
    ),
}
"""Suffix of a figure's title, and the settings that differ in its runs."""


def varied(figure: MakeStudy, *variations: str) -> MakeStudy:
    """`figure` with these variations, whose claims are the same."""

    def make(numerics: Numerics) -> Study:
        study = figure(numerics)
        for name in variations:
            title, blocks = VARIATIONS[name]
            study = study.varied(partial(_with_blocks, blocks), level=name, title=title)
        return study

    return make


def _with_blocks(blocks: Mapping[str, Mapping[str, Any]], config: RunConfig) -> RunConfig:
    values = config.model_dump(include={*blocks})
    return changed(config, **{name: values[name] | {**block} for name, block in blocks.items()})


STUDIES: dict[str, MakeStudy] = {
    "learning-rate": learning_rate_choice,
    "figure1": figure1,
    "figure2": figure2,
    "figure3": figure3,
    "figure4": figure4,
    "figure5": figure5,
    "figure1-edge": varied(figure1, "edge"),
    "figure4-edge": varied(figure4, "edge"),
    "figure4-experts": varied(figure4, "edge", "experts"),
    "figure1-any-norm": varied(figure1, "any-norm"),
    "figure4-any-norm": varied(figure4, "any-norm"),
    "peaks": peaks,
    "baselines-n1": partial(baselines, mini_batches=1),
    "baselines-n2": partial(baselines, mini_batches=2),
    "baselines-n4": partial(baselines, mini_batches=4),
    "baselines-n8": partial(baselines, mini_batches=8),
    "dense-twin": dense_twin,
    "dose-world": dose_learning_rate,
    "stale-rollouts": stale_rollouts,
    "dose-corrections": corrections,
    "dose-router-shift": router_shift,
    "trainer-type": trainer_type,
    "dose-depth": depth,
    "dose-length": length,
    **{f"erl-sparse-{world}": partial(sparse_rewards, world) for world in SPARSE_WORLDS},
    "erl-frozenlake": partial(experiential_study, "frozenlake", "FrozenLake", erl_frozenlake_tiny),
    "erl-sokoban": partial(experiential_study, "sokoban", "Sokoban", erl_sokoban_tiny),
    "erl-questions": partial(
        experiential_study, "questions", "multi-hop questions", erl_questions_tiny
    ),
}
"""Every study by the name that the command line knows it by, as a function of the engine's
numerics."""

DIALS = {
    "routing-noise": routing_noise,
    "weight-noise": weight_noise,
    "staleness": staleness,
    "learning-rate": step_size,
}

DOSE_STUDIES: dict[str, Callable[[Numerics], DoseStudy]] = {
    "dose": partial(dose_study, "dose", tuple(DIALS.values())),
    **{
        f"dose-{name}": partial(dose_study, f"dose-{name}", (dial,)) for name, dial in DIALS.items()
    },
    "diagram-routing-noise": routing_noise_by_learning_rate,
    "diagram-weight-noise": weight_noise_by_staleness,
}
"""Studies of doses: all dials at once, one alone, or one at doses of another, by name."""

RULE_STUDIES: dict[str, Callable[[Numerics], RuleStudy]] = {
    "rule": partial(rule_study, tuple(DIALS.values())),
    **{
        f"rule-{world}": partial(rule_study, tuple(DIALS.values()), world=world) for world in WORLDS
    },
}
"""Tests of the rule of remedies, in the world of the doses and in others."""
