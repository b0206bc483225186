"""Depth, length and the trainer's type in the world of the doses, where no border can be sought.

A deeper model, longer answers or a trainer in bfloat16 is another world with a cold start of its
own, and not more of one cause: runs of equal seed are compared at each point, and no dose is
chosen. Claims and seeds are stated before any run.
"""

from collections.abc import Mapping

from steadyrl.lab.claims import Claim, Comparison, greater, less, not_greater
from steadyrl.lab.dose import LOSS
from steadyrl.lab.dose_world import dose_world
from steadyrl.lab.study import Condition, Study, changed
from steadyrl.lab.sweep import SCORES, SweepStudy, conditions_of, place
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import RunConfig

LAYERS = (3, 6, 12, 24)
OPERANDS = (3, 4, 6, 8)
"""Answers have about five tokens for three operands, and twenty for eight."""

NOISE = 0.354
"""The dose of routing noise at which half of the runs of three layers lose 0.05."""

MINI_BATCHES = 4
SEEDS = (0, 1, 2)
SOURCE = "our own, before any run"

CLEAN, NOISY, REPLAYED = "no noise", f"routing noise {NOISE:g}", f"routing noise {NOISE:g}, R3"
LINES: dict[str, tuple[float, RoutingReplay]] = {
    CLEAN: (0.0, RoutingReplay.NONE),
    NOISY: (NOISE, RoutingReplay.NONE),
    REPLAYED: (NOISE, RoutingReplay.R3),
}
MEASURES = (*SCORES, "final_reward", "kept", "log10_mismatch")
DRAWN = ("final_score", "best_score", "final_reward", "log10_mismatch")


def depth(numerics: Numerics) -> SweepStudy:
    """Layers, without routing noise, with it, and with R3 against it."""
    return _sweep(
        numerics,
        name="dose-depth",
        title="Depth under routing noise",
        axis="layers",
        changes={layers: {"model": {"layers": layers}} for layers in LAYERS},
    )


def length(numerics: Numerics) -> SweepStudy:
    """Operands of the chain, and so tokens of an answer, under the same three treatments."""
    return _sweep(
        numerics,
        name="dose-length",
        title="Length of answers under routing noise",
        axis="operands of a chain",
        changes={
            operands: {
                "environment": {"operands": operands},
                "sampling": {"max_new_tokens": 4 * operands},
            }
            for operands in OPERANDS
        },
    )


def trainer_type(numerics: Numerics) -> Study:
    """A trainer in bfloat16 with float32 masters against one in float32, with R3 and without.

    With --numerics bfloat16 this is the setup of arXiv:2512.01374.
    """
    plain = dose_world(numerics, mini_batches=MINI_BATCHES)
    conditions = tuple(
        Condition(
            name=f"{dtype} trainer, {replay}",
            config=changed(_with(plain, {"learner": {"dtype": dtype}}), routing_replay=mode),
        )
        for dtype in ("float32", "bfloat16")
        for replay, mode in (("no replay", RoutingReplay.NONE), ("R3", RoutingReplay.R3))
    )
    return Study(
        experiment="trainer-type",
        level=numerics,
        title=f"Trainer in float32 and in bfloat16, N = {MINI_BATCHES}, rollouts in {numerics}",
        conditions=conditions,
        claims=(
            Claim(
                text="R3 lowers the mismatch of a bfloat16 trainer",
                source=SOURCE,
                comparisons=(
                    less("log10_mismatch", "bfloat16 trainer, R3", "bfloat16 trainer, no replay"),
                ),
            ),
            Claim(
                text="A float32 trainer scores no higher than one in bfloat16",
                source=SOURCE,
                comparisons=(
                    not_greater(
                        "final_score", "float32 trainer, no replay", "bfloat16 trainer, no replay"
                    ),
                ),
            ),
        ),
        seeds=SEEDS,
        measures=MEASURES,
    )


def _sweep(
    numerics: Numerics,
    *,
    name: str,
    title: str,
    axis: str,
    changes: Mapping[int, Mapping[str, Mapping[str, object]]],
) -> SweepStudy:
    plain = dose_world(numerics, mini_batches=MINI_BATCHES)
    lines = {
        line: [
            (float(point), _noisy(_with(plain, change), noise, replay))
            for point, change in changes.items()
        ]
        for line, (noise, replay) in LINES.items()
    }
    smallest, largest = float(min(changes)), float(max(changes))
    return SweepStudy(
        experiment=name,
        level=numerics,
        title=f"{title}, N = {MINI_BATCHES}, rollouts in {numerics}",
        conditions=tuple(conditions_of(lines)),
        claims=(
            Claim(
                text=f"At {axis} {largest:g} R3 scores higher under routing noise than no replay",
                source=SOURCE,
                comparisons=(
                    greater("final_score", place(REPLAYED, largest), place(NOISY, largest)),
                ),
                premise=(_solves_some(largest),),
            ),
            *(
                Claim(
                    text=f"At {axis} {point:g} routing noise lowers the score",
                    source=SOURCE,
                    comparisons=(greater("final_score", place(CLEAN, point), place(NOISY, point)),),
                    premise=(_solves_some(point),),
                )
                for point in (smallest, largest)
            ),
        ),
        seeds=SEEDS,
        measures=MEASURES,
        axis=axis,
        points=tuple(map(float, changes)),
        lines=tuple(lines),
        drawn=DRAWN,
    )


def _solves_some(point: float) -> Comparison:
    """Without it there is nothing to lose. Added when the runs were known: of chains of eight
    operands none is solved.
    """
    return greater("final_score", place(CLEAN, point), LOSS)


def _noisy(config: RunConfig, noise: float, replay: RoutingReplay) -> RunConfig:
    return changed(_with(config, {"engine": {"routing_noise": noise}}), routing_replay=replay)


def _with(config: RunConfig, change: Mapping[str, Mapping[str, object]]) -> RunConfig:
    """`config` with some settings of some blocks changed."""
    values = config.model_dump(include={*change})
    return changed(config, **{name: values[name] | {**block} for name, block in change.items()})
