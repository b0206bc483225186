"""Sharded learners beside whole ones, and what they have in common."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from steadyrl.learners.fsdp.checkpoint import MOMENTS, saved_sizes
from steadyrl.learners.fsdp.learner import FsdpLearner
from steadyrl.learners.fsdp.ranks import RankGroup
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.learners.settings import LearnerContext
from steadyrl.policies.loading import load_model, load_tokenizer, set_dtype
from steadyrl.policies.model_settings import SmallDense
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from tests.learners.small import UNCLIPPED, tiny_policy

PRECISION = 1e-6
"""Relative difference of sums of the same float32 numbers in another order."""


def tiny_dense() -> Policy:
    """A dense policy that is not indifferent."""
    settings = SmallDense(
        layers=2, width=16, heads=2, kv_heads=1, head_dim=8, mlp_width=16, max_positions=64
    )
    tokenizer = load_tokenizer(settings)
    model = load_model(settings, tokenizer=tokenizer, seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
    return Policy(model, tokenizer)


def make_policy(kind: str) -> Policy:
    """A `dense` or an `moe` policy, always with the same weights."""
    return tiny_dense() if kind == "dense" else tiny_policy()


def sharded(
    group: RankGroup,
    kind: str = "dense",
    *,
    replay: RoutingReplay = RoutingReplay.NONE,
    optimizer: OptimizerSettings = UNCLIPPED,
    **settings: Any,
) -> FsdpLearner:
    """A learner on the ranks of `group`, which lose the one they had before."""
    policy = make_policy(kind)
    dtype = getattr(torch, settings.get("dtype", "float32"))
    masters = set_dtype(policy.model, dtype)
    learner = FsdpLearner(
        FsdpLearnerSettings(ranks=len(group), **settings),
        LearnerContext(policy=policy, replay=replay, seed=0, masters=masters),
        group,
    )
    learner.begin_stage(optimizer, 1.0, fresh=True)
    return learner


def local(
    kind: str = "dense",
    *,
    replay: RoutingReplay = RoutingReplay.NONE,
    optimizer: OptimizerSettings = UNCLIPPED,
    **settings: Any,
) -> LocalLearner:
    """The same learner in this process."""
    policy = make_policy(kind)
    dtype = getattr(torch, settings.get("dtype", "float32"))
    masters = set_dtype(policy.model, dtype)
    learner = LocalLearner(policy, LocalLearnerSettings(**settings), replay=replay, masters=masters)
    learner.begin_stage(optimizer, 1.0, fresh=True)
    return learner


@dataclass
class Pair:
    """A sharded learner and its oracle."""

    sharded: FsdpLearner
    local: LocalLearner

    @classmethod
    def of(cls, group: RankGroup, kind: str, **options: Any) -> "Pair":
        return cls(sharded(group, kind, **options), local(kind, **options))


def saved_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors in a folder of shards."""
    state = {name: torch.zeros(size) for name, size in saved_sizes(folder).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # there is no process group, on purpose
        dcp.load(state, checkpoint_id=folder, no_dist=True)
    return state


def gradients(learner: FsdpLearner, folder: Path) -> dict[str, Tensor]:
    """The gradient of the first update of a stage, from the first moments it left."""
    learner.save(folder)
    decay = 1 - UNCLIPPED.betas[0]
    return {
        name.removeprefix("exp_avg/"): moment / decay
        for name, moment in saved_tensors(folder / MOMENTS).items()
        if name.startswith("exp_avg/")
    }


def assert_equal_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Asserts that no gradient differs by more than `PRECISION` of its norm."""
    assert found.keys() == expected.keys()
    largest = max(float(gradient.norm()) for gradient in expected.values())
    assert largest > 1e-3
    for name, gradient in expected.items():
        scale = max(float(gradient.norm()), 1e-2 * largest)
        assert float((found[name] - gradient).norm()) <= PRECISION * scale, name


def close(found: float, expected: float) -> bool:
    """Whether two losses or norms agree to `PRECISION`.

    A loss is a difference of sums of log-probabilities, which are about -5 here, and is as
    uncertain as these.
    """
    return abs(found - expected) <= PRECISION * max(abs(expected), 5.0)


def flat(metrics: dict[str, Any]) -> dict[str, Any]:
    """`metrics` with an entry for each element of a list."""
    lists = {name: value for name, value in metrics.items() if isinstance(value, list)}
    parts = {f"{n}/{place}": v for n, values in lists.items() for place, v in enumerate(values)}
    return {name: value for name, value in metrics.items() if name not in lists} | parts
