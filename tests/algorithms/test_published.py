"""Which settings make which published algorithm."""

import math

import pytest

from steadyrl.algorithms.policy_gradient import CISPO, GRPO, MiniRL, Reinforce
from steadyrl.algorithms.published import PUBLISHED
from steadyrl.objectives import Aggregation

# arXiv:2512.01374, appendix A: MiniRL takes the mean of the group off and sums tokens; GRPO and
# CISPO divide by its standard deviation too; GRPO by the length of each response, CISPO by that of
# the group. arXiv:2402.14740: RLOO leaves the response itself out of its baseline.
TABLE = {
    "minirl": (MiniRL, "group_mean", Aggregation.TOKEN_SUM),
    "grpo": (GRPO, "group_mean_std", Aggregation.LENGTH_NORM),
    "cispo": (CISPO, "group_mean_std", Aggregation.GROUP_TOKEN_MEAN),
    "reinforce": (Reinforce, "group_mean", Aggregation.TOKEN_SUM),
    "rloo": (Reinforce, "leave_one_out", Aggregation.TOKEN_SUM),
}


def test_published_algorithms_are_those_of_the_papers() -> None:
    rows = {
        name: (type(settings.objective), settings.advantage, settings.aggregation)
        for name, settings in PUBLISHED.items()
    }
    assert rows == TABLE
    assert {settings.constant_length for settings in PUBLISHED.values()} == {None}


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
