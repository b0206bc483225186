"""Metrics of the age of rollouts, and of groups that were dropped for it."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from steadyrl.algorithms.protocol import Rollout
from steadyrl.engines.driver import drive
from steadyrl.training.staleness import rescored_metrics, staleness_metrics
from tests.learners.small import completion_of, group_of
from tests.rollout.fakes import ScriptedEngine


def test_staleness_is_the_mean_over_updates_and_tokens() -> None:
    assert staleness_metrics(Rollout(policy_version=4), [6, 7]) == {"staleness": 2.5}
    mixed = Rollout(policy_version=4, mean_version=5.5)
    assert staleness_metrics(mixed, [6, 7]) == {"staleness": 1.0, "staleness_oldest": 2.0}
    assert staleness_metrics(Rollout(policy_version=4), []) == {"staleness": 0.0}


def test_dropped_groups_are_compared_with_those_that_are_learned_from() -> None:
    kept = [group_of([[completion_of(2)], [completion_of(4)]], rewards=[1.0, 1.0])] * 3
    late = group_of([[completion_of(40)], [completion_of(20)]], rewards=[0.0, 0.5])
    none = staleness_metrics(Rollout(groups=tuple(kept), dropped=()), [0])
    some = staleness_metrics(Rollout(groups=tuple(kept), dropped=(late,)), [0])

    assert none == {"staleness": 0.0, "dropped_fraction": 0.0}
    assert some == {
        "staleness": 0.0,
        "dropped_fraction": 0.25,
        "dropped_reward": 0.25,
        "dropped_response_length": 30.0,
    }


class Halving(ScriptedEngine):
    """Gives every token half of the probability that it was sampled with, which was 1."""

    async def score(self, sequences: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [torch.full((len(tokens),), -math.log(2)) for tokens in sequences]


def test_rescored_tokens_tell_how_far_the_weights_have_moved() -> None:
    completion = replace(completion_of(3), logprobs=torch.zeros(3))
    groups = (group_of([[completion], []]), group_of([[completion_of(2)]]))
    engine = Halving(lambda *_: "")
    metrics = drive(rescored_metrics(Rollout(groups=groups), engine, 1))

    # k3 = u - 1 - log u at u = 1/2
    assert metrics == {"rollout_staleness_kl_k3": pytest.approx(math.log(2) - 0.5, rel=1e-6)}
    assert drive(rescored_metrics(Rollout(groups=groups), engine, 0)) == {}
