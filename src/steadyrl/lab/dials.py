"""The dials: routing noise, weight noise, gradient steps on a rollout, and the learning rate."""

from typing import Any

import numpy as np

from steadyrl.lab.dose import Dial
from steadyrl.lab.dose_world import GRADIENT_STEPS, dose_world
from steadyrl.lab.off_policy import REPLAYS
from steadyrl.lab.on_policy import ALGORITHMS, PLAIN, UNCORRECTED
from steadyrl.lab.study import changed
from steadyrl.lab.world import MINIRL, NO_CLIPPING
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import RunConfig


def routing_noise(numerics: Numerics) -> Dial:
    """The engine's choice of experts perturbed, four gradient steps a rollout: none, R2 or R3."""
    return Dial(
        name="routing noise",
        axis="standard deviation of the noise on the logarithms of the routers' scores",
        doses=_doses(0.125, 4.0),
        remedies={name: {"routing_replay": mode} for name, mode in REPLAYS.items()},
        control=dose_world(numerics, mini_batches=4),
        turn=lambda config, dose: _with(config, "engine", routing_noise=dose),
    )


def weight_noise(numerics: Numerics) -> Dial:
    """The engine's weights perturbed, fresh at each sync: with importance weights and without."""
    return Dial(
        name="weight noise",
        axis="relative standard deviation of the noise on the engine's weights",
        doses=_doses(1 / 64, 0.5),
        remedies={
            "no importance weights": {"objective": ALGORITHMS[UNCORRECTED].objective},
            "importance weights": {"objective": ALGORITHMS[PLAIN].objective},
        },
        control=dose_world(numerics, mini_batches=4),
        turn=lambda config, dose: _with(config, "engine", weight_noise=dose),
    )


def staleness(numerics: Numerics) -> Dial:
    """More gradient steps on each rollout, which is larger by as much: clipping and R2.

    R3 would replay what R2 does: without noise the engine chooses the experts of the trainer.
    """

    def turn(config: RunConfig, dose: float) -> RunConfig:
        steps = dose_world(numerics, mini_batches=int(dose))
        return changed(
            _with(config, "algorithm", mini_batches=int(dose)),
            steps=steps.steps,
            optimizer=steps.optimizer.model_dump(),
            evaluate_every=steps.evaluate_every,
            journal=steps.journal.model_dump(),
        )

    clipping = MINIRL.objective
    return Dial(
        name="staleness",
        axis="gradient steps on each rollout",
        doses=tuple(float(2**power) for power in range(1, GRADIENT_STEPS.bit_length())),
        remedies={
            "no clipping": {"objective": NO_CLIPPING.objective},
            "clipping": {"objective": clipping},
            "clipping, R2": {"objective": clipping, "routing_replay": RoutingReplay.R2},
        },
        control=dose_world(numerics, mini_batches=1),
        turn=turn,
    )


def step_size(numerics: Numerics) -> Dial:
    """A higher learning rate, four gradient steps a rollout: clipping and R3."""
    clipping = MINIRL.objective
    return Dial(
        name="learning rate",
        axis="learning rate, in multiples of the world's",
        doses=_doses(2**0.5, 32.0),
        remedies={
            "no clipping": {"objective": NO_CLIPPING.objective},
            "clipping": {"objective": clipping},
            "clipping, R3": {"objective": clipping, "routing_replay": RoutingReplay.R3},
        },
        control=dose_world(numerics, mini_batches=4),
        turn=lambda config, dose: _with(
            config, "optimizer", learning_rate=config.optimizer.learning_rate * dose
        ),
    )


def _doses(first: float, last: float) -> tuple[float, ...]:
    """Doses from `first` to `last`, each the square root of two times the one before."""
    count = round(2 * np.log2(last / first)) + 1
    return tuple(float(f"{dose:.3g}") for dose in np.geomspace(first, last, count))


def _with(config: RunConfig, block: str, **settings: Any) -> RunConfig:
    return changed(config, **{block: getattr(config, block).model_dump() | settings})
