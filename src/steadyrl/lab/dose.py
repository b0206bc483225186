"""Dose and response: how much of one cause of instability a run bears, with a remedy and without.

Every study turns one dial and leaves the rest alone: rollouts in float32 have no other mismatch
than the dial's. Doses, seeds and the definition of a border are
fixed here, before anything is run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from steadyrl.lab.claims import Claim, greater
from steadyrl.lab.off_policy import REPLAYS
from steadyrl.lab.on_policy import ALGORITHMS, PLAIN, UNCORRECTED
from steadyrl.lab.study import Condition, Study, changed
from steadyrl.lab.world import world
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig

CONTROL = "dose 0"
MINI_BATCHES = 4
SEEDS = (0, 1, 2, 3, 4)
PAPER = "arXiv:2512.01374"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseStudy(Study):
    """A study of one dial: a control at dose 0, and every remedy at every dose.

    Doses are above 0 and rise.
    """

    dial: str
    """Label of the dose axis."""

    doses: tuple[float, ...]
    remedies: tuple[str, ...]
    """The first is none at all: the others are compared with it."""


def at(remedy: str, dose: float) -> str:
    """The name of the condition with `remedy` at `dose`."""
    return f"{remedy}, {dose:g}"


def routing_noise(numerics: Numerics) -> DoseStudy:
    """The engine's choice of experts perturbed, four gradient steps a rollout: none, R2 or R3."""
    doses = (0.25, 0.5, 1.0, 2.0)
    return _dose_study(
        "dose-routing-noise",
        numerics,
        title="Routing noise",
        dial="standard deviation of the noise on the logarithm of the routers' scores",
        doses=doses,
        remedies={name: {"routing_replay": mode} for name, mode in REPLAYS.items()},
        dose=lambda config, dose: _engine(config, routing_noise=dose),
        claims=tuple(
            Claim(
                text=f"With routing noise of {dose:g}, {better} scores higher than {worse}",
                source=source,
                comparisons=(greater("final_score", at(better, dose), at(worse, dose)),),
            )
            for dose in doses
            for better, worse, source in (
                ("R3", "no replay", f"{PAPER}, section 3.2"),
                ("R3", "R2", f"{PAPER}, section 3.2, for N of 4 and more"),
            )
        ),
    )


def weight_noise(numerics: Numerics) -> DoseStudy:
    """The engine's weights perturbed, fresh at each sync: with importance weights and without."""
    doses = (0.02, 0.05, 0.1, 0.2)
    corrected = "importance weights"
    return _dose_study(
        "dose-weight-noise",
        numerics,
        title="Numerics noise",
        dial="relative standard deviation of the noise on the engine's weights",
        doses=doses,
        remedies={
            "no importance weights": {"objective": ALGORITHMS[UNCORRECTED].objective},
            corrected: {"objective": ALGORITHMS[PLAIN].objective},
        },
        dose=lambda config, dose: _engine(config, weight_noise=dose),
        claims=tuple(
            Claim(
                text=f"With weight noise of {dose:g}, importance weights score higher",
                source=f"{PAPER}, figure 1",
                comparisons=(
                    greater("final_score", at(corrected, dose), at("no importance weights", dose)),
                ),
            )
            for dose in doses
        ),
    )


def _dose_study(
    experiment: str,
    numerics: Numerics,
    *,
    title: str,
    dial: str,
    doses: tuple[float, ...],
    remedies: Mapping[str, Mapping[str, object]],
    dose: Callable[[RunConfig, float], RunConfig],
    claims: tuple[Claim, ...],
) -> DoseStudy:
    control = _dose_world(numerics)
    return DoseStudy(
        experiment=experiment,
        level=numerics,
        title=f"{title}, N = {MINI_BATCHES}, rollouts in {numerics}",
        dial=dial,
        doses=doses,
        remedies=tuple(remedies),
        conditions=(
            Condition(name=CONTROL, config=control),
            *(
                Condition(name=at(name, value), config=dose(_treated(control, remedy), value))
                for name, remedy in remedies.items()
                for value in doses
            ),
        ),
        claims=claims,
        seeds=SEEDS,
    )


def _dose_world(numerics: Numerics) -> RunConfig:
    """The world of the studies at twice their learning rate, in 40 rollouts of 256 answers."""
    config = world(numerics, mini_batches=MINI_BATCHES, learning_rate=4e-4, gradient_steps=160)
    return changed(
        config,
        algorithm=config.algorithm.model_dump() | {"prompts": 32},
        evaluation=config.evaluation.model_dump() | {"samples": 2},
        evaluate_every=10,
    )


def _treated(config: RunConfig, remedy: Mapping[str, object]) -> RunConfig:
    """`config` with the settings of a remedy, of the run or of its algorithm."""
    own = {name: value for name, value in remedy.items() if name in RunConfig.model_fields}
    algorithm = config.algorithm.model_copy(
        update={name: value for name, value in remedy.items() if name not in own}
    )
    return changed(config, algorithm=algorithm.model_dump(), **own)


def _engine(config: RunConfig, **dials: float) -> RunConfig:
    return changed(config, engine=config.engine.model_dump() | dials)
