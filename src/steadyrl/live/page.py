"""The page of a loop: what each generation learned from, and the numbers of both policies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steadyrl.analysis import Series
from steadyrl.base.wording import short_number
from steadyrl.live.gate import BEGUN, LOGLIKELIHOOD, SCORE, SERVED
from steadyrl.live.records import Generation, Verdict
from steadyrl.live.settings import LiveConfig
from steadyrl.report.page import write_page
from steadyrl.report.plots import curves_svg

SIZE = (640, 240)


def write_live_page(path: Path, config: LiveConfig, generations: Sequence[Generation]) -> None:
    """Writes the page of the generations so far."""
    finished = [each for each in generations if each.verdict is not Verdict.CLAIMED]
    curves = {"held-out score of the trained policy": _series(finished, SCORE)}
    promoted = sum(each.verdict is Verdict.PROMOTED for each in finished[1:])
    context: dict[str, Any] = {
        "name": path.parent.name,
        "rows": [_row(each) for each in generations],
        "promoted": promoted,
        "rolled_back": len(finished) - 1 - promoted if finished else 0,
        "gate": config.gate,
        "drawing": curves_svg(curves, size=SIZE, key="live", unit="generation")
        if len(finished) > 1
        else None,
    }
    write_page(path, "live.html.j2", context)


def _series(generations: Sequence[Generation], name: str) -> Series:
    measured = [each for each in generations if name in each.numbers]
    return Series(
        name=name,
        steps=np.array([each.number for each in measured]),
        values=np.array([each.numbers[name] for each in measured], dtype=np.float64),
    )


def _row(generation: Generation) -> dict[str, str]:
    numbers = generation.numbers

    def shown(name: str) -> str:
        return short_number(numbers[name]) if name in numbers else ""

    return {
        "number": str(generation.number),
        "verdict": generation.verdict.value,
        "sessions": shown("sessions"),
        "texts": shown("texts"),
        "reward": shown("reward"),
        "score": shown(SCORE),
        "served_score": shown(SERVED + SCORE),
        "drift": shown(LOGLIKELIHOOD),
        "served_drift": shown(SERVED + LOGLIKELIHOOD),
        "begun_drift": shown(BEGUN + LOGLIKELIHOOD),
        "version": "" if generation.policy_version is None else str(generation.policy_version),
    }
