"""Learners of adapters for the tests of vLLM, in process and as a server."""

import torch

from steadyrl.engines.canary import CanarySettings, make_probes
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.policies.lora import LoraSettings, randomize
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay

SETTINGS = CanarySettings(every=1)
RANK = 4


def learner_on(policy: Policy, **lora: object) -> LocalLearner:
    settings = LocalLearnerSettings(lora=LoraSettings(**{"rank": RANK, "alpha": 8.0, **lora}))
    return LocalLearner(policy, settings, replay=RoutingReplay.NONE)


def move(learner: LocalLearner, seed: int) -> None:
    """What an update does: other weights, another version."""
    randomize(learner.policy.model, share=0.3, seed=seed)
    learner.policy_version += 1


def probes_of(policy: Policy) -> list[torch.Tensor]:
    return make_probes(range(3, policy.vocabulary_size), SETTINGS, 256)
