"""Corrections of the mismatch under weight noise, and no mismatch at all as the ground truth.

Every line is MiniRL's clipping with another weight for pi_old / mu_old, or with none and the mean
under mu_old subtracted. The ground truth is a float32 engine whose log-probabilities are the
trainer's, so that there is nothing to correct. Seeds and claims are stated before any run; score
centering, and what is claimed of it, was added when the runs of the others were known. Under
clipping it lost score without any mismatch, and the paper does not clip: then the two lines without
clipping were added.
"""

import math
from collections.abc import Mapping

from steadyrl.lab.claims import Claim, greater, similar
from steadyrl.lab.dose_world import dose_world
from steadyrl.lab.study import changed
from steadyrl.lab.sweep import SCORES, SweepStudy, conditions_of, place
from steadyrl.objectives import Masking, MiniRL, ScoreCentering, Truncation
from steadyrl.objectives.corrections import MismatchLevel
from steadyrl.policies.numerics import Numerics
from steadyrl.run.config import RunConfig

DOSES = (0.0, 0.149, 0.297)
"""Weight noise: none, about where half of the runs lose 0.05 with importance weights, twice that.
From the first 12 runs of that border."""

MINI_BATCHES = 4
SEEDS = (0, 1, 2)
SOURCE = "our own, before any run"
PAPER = "arXiv:2609.20807, abstract"

NO_CORRECTION, EXACT = "no correction", "no mismatch"
CENTERING = "score centering"
UNCLIPPED = "no correction, no clipping"
CENTERED_UNCLIPPED = "score centering, no clipping"

_UNCORRECTED = MiniRL(correct_mismatch=False)
_UNCLIPPED = MiniRL(correct_mismatch=False, clip_low=math.inf, clip_high=math.inf)
_BY_RESPONSE = MismatchLevel.SEQUENCE_PRODUCT

LINES: Mapping[str, Mapping[str, object]] = {
    NO_CORRECTION: {"objective": _UNCORRECTED},
    "MiniRL": {"objective": MiniRL()},
    "TIS": {"objective": _UNCORRECTED, "correction": Truncation()},
    "TIS by response": {
        "objective": _UNCORRECTED,
        "correction": Truncation(level=_BY_RESPONSE),
    },
    "MIS": {"objective": _UNCORRECTED, "correction": Masking()},
    "MIS by response": {"objective": _UNCORRECTED, "correction": Masking(level=_BY_RESPONSE)},
    CENTERING: {"objective": _UNCORRECTED, "correction": ScoreCentering()},
    f"{CENTERING}, TIS": {
        "objective": _UNCORRECTED,
        "correction": ScoreCentering(weights=Truncation()),
    },
    UNCLIPPED: {"objective": _UNCLIPPED},
    CENTERED_UNCLIPPED: {"objective": _UNCLIPPED, "correction": ScoreCentering()},
}


def corrections(numerics: Numerics) -> SweepStudy:
    """Every correction at every dose; the ground truth at none."""
    lines = {
        line: [(dose, _run(numerics, settings, dose)) for dose in DOSES]
        for line, settings in LINES.items()
    }
    if numerics is Numerics.FLOAT32:
        exact = changed(
            _run(numerics, LINES["MiniRL"], 0.0),
            learner=dose_world(numerics, mini_batches=MINI_BATCHES).learner.model_dump()
            | {"rollout_logprobs": "trainer"},
        )
        lines[EXACT] = [(0.0, exact)]
    claims = [
        *(
            _higher(f"{line} scores higher than no correction", SOURCE, line, NO_CORRECTION)
            for line in LINES
            if line not in (NO_CORRECTION, UNCLIPPED, CENTERED_UNCLIPPED)
        ),
        _higher(
            "without clipping, score centering scores higher than no correction",
            PAPER,
            CENTERED_UNCLIPPED,
            UNCLIPPED,
        ),
        _higher("score centering scores higher than TIS", PAPER, CENTERING, "TIS"),
    ]
    if EXACT in lines:
        claims.append(
            Claim(
                text="A float32 engine is as good as no mismatch at all",
                source=SOURCE,
                comparisons=(similar("final_score", place("MiniRL", 0.0), place(EXACT, 0.0)),),
            )
        )
    return SweepStudy(
        experiment="dose-corrections",
        level=numerics,
        title=f"Corrections under weight noise, N = {MINI_BATCHES}, rollouts in {numerics}",
        conditions=tuple(conditions_of(lines)),
        claims=tuple(claims),
        seeds=SEEDS,
        measures=(*SCORES, "final_reward", "log10_mismatch"),
        axis="relative standard deviation of the noise on the engine's weights",
        points=DOSES,
        lines=tuple(lines),
        drawn=("final_score", "mean_score", "final_reward", "log10_mismatch"),
    )


def _higher(text: str, source: str, line: str, other: str) -> Claim:
    """The claim that one line scores higher than another at the largest dose."""
    largest = DOSES[-1]
    return Claim(
        text=f"At weight noise {largest:g}, {text}",
        source=source,
        comparisons=(greater("final_score", place(line, largest), place(other, largest)),),
    )


def _run(numerics: Numerics, settings: Mapping[str, object], dose: float) -> RunConfig:
    config = dose_world(numerics, mini_batches=MINI_BATCHES)
    return changed(
        config,
        algorithm=config.algorithm.model_copy(update=dict(settings)).model_dump(),
        engine=config.engine.model_dump() | {"weight_noise": dose},
    )
