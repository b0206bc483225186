"""Groups of episodes."""

import pytest
import torch

from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.trajectory import Group, Trajectory


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
