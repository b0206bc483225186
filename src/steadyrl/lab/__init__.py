"""The papers' figures as runnable experiments: a study names its runs, its seeds and its claims."""

from collections.abc import Callable
from functools import partial

from steadyrl.lab.any_norm import at_any_norm
from steadyrl.lab.baselines import baselines
from steadyrl.lab.cold_starts import figure5
from steadyrl.lab.dense_twin import dense_twin
from steadyrl.lab.dose import routing_noise, weight_noise
from steadyrl.lab.edge import at_the_edge
from steadyrl.lab.erl_frozen_lake import erl_frozen_lake
from steadyrl.lab.erl_questions import erl_questions
from steadyrl.lab.erl_sokoban import erl_sokoban
from steadyrl.lab.experts import figure4_with_more_experts
from steadyrl.lab.learning_rate import learning_rate_choice
from steadyrl.lab.off_policy import figure2, figure3, figure4
from steadyrl.lab.on_policy import figure1
from steadyrl.lab.peaks import peaks
from steadyrl.lab.study import Study
from steadyrl.policies.numerics import Numerics

STUDIES: dict[str, Callable[[Numerics], Study]] = {
    "learning-rate": learning_rate_choice,
    "figure1": figure1,
    "figure2": figure2,
    "figure3": figure3,
    "figure4": figure4,
    "figure5": figure5,
    "figure1-edge": partial(at_the_edge, figure1),
    "figure4-edge": partial(at_the_edge, figure4),
    "figure4-experts": figure4_with_more_experts,
    "figure1-any-norm": partial(at_any_norm, figure1),
    "figure4-any-norm": partial(at_any_norm, figure4),
    "peaks": peaks,
    "baselines-n1": partial(baselines, mini_batches=1),
    "baselines-n2": partial(baselines, mini_batches=2),
    "baselines-n4": partial(baselines, mini_batches=4),
    "baselines-n8": partial(baselines, mini_batches=8),
    "dense-twin": dense_twin,
    "dose-routing-noise": routing_noise,
    "dose-weight-noise": weight_noise,
    "erl-frozenlake": erl_frozen_lake,
    "erl-sokoban": erl_sokoban,
    "erl-questions": erl_questions,
}
"""Every study by the name that the command line knows it by, as a function of the engine's
numerics."""
