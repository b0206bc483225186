"""Groups of episodes."""

from dataclasses import replace

import pytest
import torch

from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.trajectory import Group, Trajectory, mean_reward_parts


def group_of(*rewards: float) -> Group:
    completion = Completion(
        prompt_ids=torch.tensor([1]),
        token_ids=torch.tensor([2]),
        logprobs=torch.tensor([-0.5]),
        finish_reason=FinishReason.STOP,
        policy_version=0,
    )
    return Group(
        task_id="t",
        trajectories=tuple(
            Trajectory(
                task_id="t",
                messages=(),
                completions=(completion,),
                reward=reward,
                terminated=True,
                truncated=False,
            )
            for reward in rewards
        ),
    )


@pytest.mark.parametrize(
    ("rewards", "signal"),
    [((0.0, 1.0), True), ((1.0, 1.0), False), ((0.5,), False), ((0.0, 1e-9), True)],
)
def test_a_group_has_signal_when_its_rewards_differ(
    rewards: tuple[float, ...], signal: bool
) -> None:
    group = group_of(*rewards)
    assert group.has_signal is signal
    assert group.rewards.tolist() == pytest.approx(list(rewards))


def test_parts_of_rewards_are_averaged_over_the_episodes_that_have_them() -> None:
    right, short = {"math": 1.0, "length": 0.5}, {"length": 0.25}
    episodes = [replace(group_of(1.0).trajectories[0], reward_parts=p) for p in (right, short, {})]
    assert mean_reward_parts(episodes, "score") == {"score/length": 0.375, "score/math": 1.0}
    assert mean_reward_parts(episodes[2:], "score") == {}
