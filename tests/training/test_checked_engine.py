"""Faults of a sync, each of which stops a run: of the local engine, in float32 and bfloat16."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from steadyrl.engines.canary import CanaryError, CanarySettings, make_probes
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.weight_source import StateDictWeights, WeightSource
from steadyrl.training.checked_engine import CheckedEngine

Q_FIRST = "model.layers.0.self_attn.q_proj.weight"
Q_LAST = "model.layers.1.self_attn.q_proj.weight"
EXPERTS = "model.layers.0.mlp.experts.gate_up_proj"

Weights = dict[str, Tensor]
Fault = Callable[[Weights, Weights], Weights]
"""What arrives, of the weights before a sync and of those that are sent."""


class FaultyEngine(LocalEngine):
    """A local engine that receives something else than it is sent."""

    fault: Fault | None = None
    before: Weights

    async def sync(self, weights: WeightSource) -> None:
        sent = {name: weight.clone() for name, weight in weights.tensors("model")}
        arrives = sent if self.fault is None else self.fault(self.before, sent)
        await super().sync(StateDictWeights(state=arrives, version=weights.version))
        self.before = sent


class ServerLike:
    """An engine that reports no tokens."""


def sharpened(policy: Policy) -> Policy:
    """`policy` with larger weights: of the usual size, no token is much likelier than another."""
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            weight.mul_(1.0 if "norm" in name else 6.0)
    return policy


def moved(policy: Policy, scale: float = 0.02) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * scale)


def parts(
    policy: Policy, numerics: Numerics, **settings: Any
) -> tuple[CheckedEngine, LocalLearner]:
    model = EngineModel(
        policy, numerics=numerics, weight_scaling=WeightScaling.CHANNEL, record_routing=True
    )
    engine = FaultyEngine(model, max_running=8)
    learner = LocalLearner(policy, LocalLearnerSettings(), replay=RoutingReplay.R3)
    check = CanarySettings(**{"every": 1, **settings})
    return CheckedEngine(engine, learner, make_probes(range(3, 90), check, None), check), learner


@pytest.fixture(params=[Numerics.FLOAT32, Numerics.BFLOAT16])
def checked(
    request: pytest.FixtureRequest, moe_policy: Policy
) -> tuple[CheckedEngine, LocalLearner]:
    """An engine whose first sync has been proven, and a learner that has moved since then."""
    policy = sharpened(moe_policy)
    engine, learner = parts(policy, request.param)
    drive(engine.sync(learner.publish()))
    moved(policy)
    learner.policy_version = 1
    return engine, learner


def swapped(_: Weights, sent: Weights) -> Weights:
    return {**sent, Q_FIRST: sent[Q_LAST], Q_LAST: sent[Q_FIRST]}


def two_experts_swapped(_: Weights, sent: Weights) -> Weights:
    order = [1, 0, *range(2, len(sent[EXPERTS]))]
    return {**sent, EXPERTS: sent[EXPERTS][order]}


def half(before: Weights, sent: Weights) -> Weights:
    arrived = list(sent)[: len(sent) // 2]
    return {name: sent[name] if name in arrived else before[name] for name in sent}


def none(before: Weights, _: Weights) -> Weights:
    return before


def test_a_sync_that_works_is_measured(checked: tuple[CheckedEngine, LocalLearner]) -> None:
    engine, learner = checked
    drive(engine.sync(learner.publish()))
    assert 0 <= engine.sync_metrics["canary_difference"] < 0.1
    assert engine.sync_metrics.keys() == {
        "canary_difference",
        "canary_cache_difference",
        "canary_seconds",
    }


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        (swapped, f"{Q_FIRST}, {Q_LAST}. Resume"),
        (two_experts_swapped, f"{EXPERTS}. Resume"),
        (half, "those that were sent: model.layers.1."),
        (none, "those that were sent: model.embed_tokens.weight, model.layers.0."),
    ],
)
def test_a_fault_stops_the_run_and_is_named(
    checked: tuple[CheckedEngine, LocalLearner], fault: Fault, names: str
) -> None:
    engine, learner = checked
    assert isinstance(engine.engine, FaultyEngine)
    engine.engine.fault = fault
    with pytest.raises(CanaryError, match="After the sync of version 1") as error:
        drive(engine.sync(learner.publish()))
    assert names in str(error.value)


def test_the_first_sync_is_proven_tensor_by_tensor(moe_policy: Policy) -> None:
    # Weights of the usual size: two experts make less of a difference than bfloat16 might.
    engine, learner = parts(moe_policy, Numerics.FLOAT32)
    assert isinstance(engine.engine, FaultyEngine)
    engine.engine.before = {}
    engine.engine.fault = two_experts_swapped
    with pytest.raises(CanaryError, match=rf"with other weights\. .*: {EXPERTS}"):
        drive(engine.sync(learner.publish()))


def test_checks_may_be_rarer(moe_policy: Policy) -> None:
    engine, learner = parts(sharpened(moe_policy), Numerics.FLOAT32, every=2)
    assert isinstance(engine.engine, FaultyEngine)
    checks = []
    for _ in range(4):
        drive(engine.sync(learner.publish()))
        checks.append(bool(engine.sync_metrics))
    assert checks == [True, False, True, False]


def test_it_answers_as_the_engine_does(checked: tuple[CheckedEngine, LocalLearner]) -> None:
    engine, learner = checked
    drive(engine.sync(learner.publish()))
    assert engine.capabilities == engine.engine.capabilities
    assert engine.policy_version == 1
    tokens = torch.arange(5, 25)
    (one,), (other,) = drive(engine.score([tokens])), drive(engine.engine.score([tokens]))
    assert torch.equal(one, other)
    assert engine.reach is not None


def test_it_streams_as_the_engine_does(checked: tuple[CheckedEngine, LocalLearner]) -> None:
    engine, _ = checked
    sampling = Sampling(max_new_tokens=6)
    request = Request(prompt_ids=torch.arange(5, 9), num_completions=1, seed=3, sampling=sampling)
    heard: list[int] = []

    (streamed,) = drive(engine.stream(request, lambda token: heard.append(token.token_id)))

    (whole,) = drive(engine.generate(request))
    assert torch.equal(streamed.token_ids, whole.token_ids)
    assert heard == whole.token_ids[: len(heard)].tolist()
    assert heard
    assert engine.streams_tokens
    engine.engine = ServerLike()  # type: ignore[assignment]
    assert not engine.streams_tokens


def test_low_precision_is_no_fault(moe_policy: Policy) -> None:
    policy = sharpened(moe_policy)
    for numerics in (Numerics.FP8, Numerics.INT8):
        engine, learner = parts(policy, numerics)
        for version in range(3):
            learner.policy_version = version
            drive(engine.sync(learner.publish()))
            moved(policy, 0.003)
            assert engine.sync_metrics["canary_difference"] > 1e-3
