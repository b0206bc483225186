"""Which settings make which published algorithm."""

import math
import re
from pathlib import Path
from typing import get_args

import pytest

from steadyrl.algorithms.published import PUBLISHED, PublishedName
from steadyrl.objectives import (
    CISPO,
    DPPO,
    GRPO,
    GSPO,
    RSPO,
    Aggregation,
    DualClip,
    GSPOToken,
    Masking,
    MiniRL,
    MismatchLevel,
    NoCorrection,
    Reinforce,
    ScoreCentering,
    Truncation,
)

# arXiv:2512.01374, appendix A: MiniRL takes the mean of the group off and sums tokens; GRPO and
# CISPO divide by its standard deviation too; GRPO by the length of each response, CISPO by that of
# the group, and so does DAPO. Dr. GRPO divides by neither. GSPO's term is one for each response.
# arXiv:2402.14740: RLOO leaves the response itself out of its baseline.
TABLE = {
    "minirl": (MiniRL, "group_mean", Aggregation.TOKEN_SUM),
    "grpo": (GRPO, "group_mean_std", Aggregation.LENGTH_NORM),
    "grpo_tis": (GRPO, "group_mean_std", Aggregation.LENGTH_NORM),
    "grpo_sequence_mis": (GRPO, "group_mean_std", Aggregation.LENGTH_NORM),
    "icepop": (GRPO, "group_mean_std", Aggregation.LENGTH_NORM),
    "dapo": (GRPO, "group_mean_std", Aggregation.GROUP_TOKEN_MEAN),
    "dr_grpo": (GRPO, "group_mean", Aggregation.CONSTANT),
    "dual_clip": (DualClip, "group_mean_std", Aggregation.TOKEN_MEAN),
    "gspo": (GSPO, "group_mean_std", Aggregation.LENGTH_NORM),
    "gspo_token": (GSPOToken, "group_mean_std", Aggregation.LENGTH_NORM),
    "rspo": (RSPO, "group_mean_std", Aggregation.LENGTH_NORM),
    "cispo": (CISPO, "group_mean_std", Aggregation.GROUP_TOKEN_MEAN),
    "dppo_tv": (DPPO, "group_mean", Aggregation.TOKEN_SUM),
    "dppo_kl": (DPPO, "group_mean", Aggregation.TOKEN_SUM),
    "reinforce": (Reinforce, "group_mean", Aggregation.TOKEN_SUM),
    "rloo": (Reinforce, "leave_one_out", Aggregation.TOKEN_SUM),
    "score_centering": (Reinforce, "group_mean", Aggregation.TOKEN_SUM),
}


def test_published_algorithms_are_those_of_the_papers() -> None:
    rows = {
        name: (type(settings.objective), settings.advantage, settings.aggregation)
        for name, settings in PUBLISHED.items()
    }
    assert rows == TABLE
    assert set(get_args(PublishedName)) == set(TABLE)


def test_only_dr_grpo_divides_by_a_constant_length() -> None:
    lengths = {name: settings.constant_length for name, settings in PUBLISHED.items()}
    assert {name: length for name, length in lengths.items() if length} == {"dr_grpo": 3000}


def test_corrections_are_those_of_their_authors() -> None:
    corrections = {
        name: settings.correction
        for name, settings in PUBLISHED.items()
        if not isinstance(settings.correction, NoCorrection)
    }
    assert corrections == {
        "grpo_tis": Truncation(level=MismatchLevel.TOKEN, cap=2.0),
        "icepop": Masking(level=MismatchLevel.TOKEN, low=0.5, high=5.0),
        "grpo_sequence_mis": Masking(level=MismatchLevel.SEQUENCE_PRODUCT, low=0.0, high=2.0),
        "score_centering": ScoreCentering(candidates=128),
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dapo", {"clip_low": 0.2, "clip_high": 0.28}),
        ("dr_grpo", {"clip_low": 0.2, "clip_high": 0.2}),
        ("dual_clip", {"clip_low": 0.2, "clip_high": 0.2, "ratio_cap": 3.0}),
        ("gspo", {"clip_low": 3e-4, "clip_high": 4e-4}),
        ("gspo_token", {"clip_low": 3e-4, "clip_high": 4e-4}),
        ("dppo_tv", {"divergence": "total_variation", "threshold": 0.15, "weight_cap": 20.0}),
        ("dppo_kl", {"divergence": "kl", "threshold": 0.05, "weight_cap": 20.0}),
    ],
)
def test_bounds_are_those_of_each_paper(name: PublishedName, options: dict[str, object]) -> None:
    assert PUBLISHED[name].objective.model_dump(exclude={"name"}) == options


def test_the_page_of_algorithms_has_a_row_for_each() -> None:
    page = Path(__file__).parents[2] / "docs" / "algorithms" / "README.md"
    table = page.read_text(encoding="utf-8").partition("\n## ")[0]
    names = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert names == list(PUBLISHED)


@pytest.mark.parametrize("name", ["minirl", "grpo", "cispo"])
def test_clip_bounds_are_those_of_the_paper(name: str) -> None:
    objective = PUBLISHED[name].objective
    assert not isinstance(objective, Reinforce)
    assert (objective.clip_low, objective.clip_high) == (0.2, 0.27)


def test_minirl_corrects_the_mismatch_with_a_weight_of_five_at_most() -> None:
    objective = PUBLISHED["minirl"].objective
    assert isinstance(objective, MiniRL)
    assert objective.correct_mismatch
    assert objective.weight_cap == 5
    assert math.isfinite(objective.clip_low)


def test_a_mini_batch_is_that_of_the_paper() -> None:
    # 64 prompts with 16 responses each: 1,024 responses for one optimiser step, on-policy.
    for settings in PUBLISHED.values():
        assert (settings.prompts, settings.group_size, settings.mini_batches) == (64, 16, 1)
