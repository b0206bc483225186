import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyrl.base.errors import UserError
from steadyrl.objectives import group_mean, group_mean_std, leave_one_out

ESTIMATORS = [group_mean, group_mean_std, leave_one_out]
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)

# Group 4: rewards 1, 3, 8, mean 4, squared deviations 9 + 1 + 16 = 26, sample variance 13.
# Group 2: rewards 0, 1, mean 1/2, sample variance 1/2.
REWARDS = torch.tensor([1.0, 0.0, 3.0, 8.0, 1.0], dtype=torch.float64)
GROUP_IDS = torch.tensor([4, 2, 4, 4, 2])


def test_group_mean_of_a_worked_example() -> None:
    assert group_mean(REWARDS, GROUP_IDS).tolist() == [-3.0, -0.5, -1.0, 4.0, 0.5]


def test_group_mean_std_of_a_worked_example() -> None:
    got = group_mean_std(REWARDS, GROUP_IDS, epsilon=0.0)
    large, small = 13**0.5, 0.5**0.5
    expected = [-3 / large, -0.5 / small, -1 / large, 4 / large, 0.5 / small]
    assert got.tolist() == pytest.approx(expected)


def test_epsilon_is_added_to_the_standard_deviation() -> None:
    got = group_mean_std(torch.tensor([0.0, 2.0]), torch.tensor([0, 0]), epsilon=2**0.5)
    assert got.tolist() == pytest.approx([-1 / 8**0.5, 1 / 8**0.5])


def test_leave_one_out_of_a_worked_example() -> None:
    # Group 4 less the means 11/2, 9/2, 2 of the other two; group 2 less the other one.
    assert leave_one_out(REWARDS, GROUP_IDS).tolist() == [-4.5, -1.0, -1.5, 6.0, 1.0]


@settings(deadline=None, max_examples=60)
@given(
    groups=st.lists(st.lists(st.floats(-10, 10), min_size=2, max_size=5), min_size=1, max_size=4),
    data=st.data(),
)
def test_advantages_follow_their_definitions_in_any_order_of_rows(
    groups: list[list[float]], data: st.DataObject
) -> None:
    rows = [(group_id, reward) for group_id, group in enumerate(groups) for reward in group]
    rows = data.draw(st.permutations(rows))
    group_ids = torch.tensor([group_id for group_id, _ in rows])
    rewards = torch.tensor([reward for _, reward in rows])
    mean = group_mean(rewards, group_ids)
    mean_std = group_mean_std(rewards, group_ids, epsilon=0.1)
    others = leave_one_out(rewards, group_ids)
    for i, (group_id, reward) in enumerate(rows):
        group = groups[group_id]
        deviation = reward - statistics.fmean(group)
        rest = (sum(group) - reward) / (len(group) - 1)
        assert mean[i].item() == pytest.approx(deviation, abs=1e-12)
        assert mean_std[i].item() == pytest.approx(
            deviation / (statistics.stdev(group) + 0.1), abs=1e-9
        )
        assert others[i].item() == pytest.approx(reward - rest, abs=1e-12)


@every_estimator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [2, 3, 7, 10])
@pytest.mark.parametrize("reward", [0.1, 1 / 3, -0.7, 0.0])
def test_equal_rewards_have_exactly_no_advantage(
    estimator, dtype: torch.dtype, size: int, reward: float
) -> None:
    rewards = torch.full((size,), reward, dtype=dtype)
    assert estimator(rewards, torch.zeros(size, dtype=torch.long)).tolist() == [0.0] * size


@every_estimator
def test_a_single_response_is_refused(estimator) -> None:
    with pytest.raises(UserError, match=r"1 of 2 groups, first in group 9\. Sample at least 2"):
        estimator(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([5, 9, 5]))
