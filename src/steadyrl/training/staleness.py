"""Metrics of how old the weights are that sampled a rollout, and of what was dropped as too old."""

from collections.abc import Sequence

import torch

from steadyrl.algorithms.policy_gradient import group_metrics
from steadyrl.algorithms.protocol import Rollout
from steadyrl.engines.protocol import Engine
from steadyrl.objectives.diagnostics import staleness_diagnostics
from steadyrl.records.trajectory import Group


def staleness_metrics(rollout: Rollout, versions: Sequence[int]) -> dict[str, float]:
    """By how many versions the trainer is ahead of the weights that sampled `rollout`.

    Args:
        versions: Versions of the trainer before each update on it.
    """
    sampled = rollout.policy_version if rollout.mean_version is None else rollout.mean_version
    ahead = [version - sampled for version in versions]
    metrics = {"staleness": sum(ahead) / max(1, len(ahead))}
    if rollout.mean_version is not None and versions:
        metrics["staleness_oldest"] = float(versions[0] - rollout.policy_version)
    if rollout.dropped is not None:
        metrics |= _dropped_metrics(rollout.dropped, len(rollout.groups))
    return metrics


async def rescored_metrics(rollout: Rollout, engine: Engine, groups: int) -> dict[str, float]:
    """Distance between the engine when it sampled and now, with its present weights.

    Both are the engine's, so training-inference discrepancy has no part in it.

    Args:
        groups: Number of groups whose tokens are scored again.
    """
    completions = [
        completion
        for group in rollout.groups[:groups]
        for trajectory in group.trajectories
        for completion in trajectory.completions
        if len(completion.token_ids)
    ]
    if not completions:
        return {}
    scores = await engine.score([torch.cat([c.prompt_ids, c.token_ids]) for c in completions])
    pairs = zip(scores, completions, strict=True)
    now = torch.cat([score[len(c.prompt_ids) :] for score, c in pairs])
    then = torch.cat([completion.logprobs for completion in completions])
    return {"rollout_staleness_kl_k3": staleness_diagnostics(then, now)["staleness_kl_k3"]}


def _dropped_metrics(dropped: Sequence[Group], kept: int) -> dict[str, float]:
    """Share, length and reward of dropped groups, to compare with `response_length` and `reward`.

    Args:
        kept: Number of groups of the step.
    """
    share = len(dropped) / max(1, len(dropped) + kept)
    measured = group_metrics(dropped) if dropped else {}
    names = [name for name in ("reward", "response_length") if name in measured]
    return {"dropped_fraction": share} | {f"dropped_{name}": measured[name] for name in names}
