"""The check before the first step: it passes where all is well, and names each fault."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.engines.canary import CanarySettings, make_probes
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.learners.adapter_check import check_adapter
from steadyrl.learners.local import LocalLearner
from steadyrl.policies.lora import LoraSettings
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.records.weight_source import StateDictWeights, WeightSource, full_weights
from tests.learners.small import largest_difference, made_up_batch, step, tiny_learner, weights_of

SETTINGS = CanarySettings(every=1)


def learner_with_adapter() -> LocalLearner:
    return tiny_learner(lora=LoraSettings(rank=4, experts=True))


def engine_of(learner: LocalLearner, numerics: Numerics = Numerics.FLOAT32) -> LocalEngine:
    model = EngineModel(
        learner.policy,
        numerics=numerics,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=True,
    )
    return LocalEngine(model, max_running=8)


def check(learner: LocalLearner, engine: LocalEngine) -> str:
    probes = make_probes(range(6, 90), SETTINGS, 64)
    return drive(check_adapter(learner, engine, probes, SETTINGS))


@pytest.mark.parametrize("numerics", [Numerics.FLOAT32, Numerics.BFLOAT16, Numerics.FP8])
def test_an_adapter_that_is_applied_passes(numerics: Numerics) -> None:
    learner = learner_with_adapter()
    note = check(learner, engine_of(learner, numerics))
    trained = sum(weight.numel() for weight in learner.trained.parameters().values())
    assert note.startswith(f"LoRA trains {trained:,} weights beside ")
    assert "the engine agreed with it to" in note


def test_rounding_of_merged_weights_is_not_a_fault() -> None:
    learner = tiny_learner(lora=LoraSettings(rank=4), dtype=torch.bfloat16)
    note = check(learner, engine_of(learner, Numerics.BFLOAT16))
    assert "the engine agreed with it to" in note


def test_learner_and_engine_are_left_as_they_were() -> None:
    learner = learner_with_adapter()
    step(learner, made_up_batch())
    engine, before = engine_of(learner), weights_of(learner)
    state = {name: weight.clone() for name, weight in engine._model.model.state_dict().items()}
    check(learner, engine)
    assert largest_difference(weights_of(learner), before) == 0
    assert largest_difference(engine._model.model.state_dict(), state) == 0
    assert engine.policy_version == learner.policy_version == 1


def arriving(
    engine: LocalEngine, patch: pytest.MonkeyPatch, fault: Callable[[WeightSource], WeightSource]
) -> None:
    sync = engine.sync

    async def faulty(weights: WeightSource) -> None:
        await sync(fault(weights))

    patch.setattr(engine, "sync", faulty)


def test_an_engine_that_samples_from_the_base_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_with_adapter()
    engine = engine_of(learner)
    base = {n: w.clone() for n, w in full_weights(learner.publish()).tensors("model")}
    arriving(engine, monkeypatch, lambda w: StateDictWeights(state=base, version=w.version))
    with pytest.raises(UserError, match="With an adapter of random numbers, the engine does not"):
        check(learner, engine)


def test_an_engine_that_adds_the_adapter_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_with_adapter()
    engine = engine_of(learner)
    base = {n: w.clone() for n, w in full_weights(learner.publish()).tensors("model")}

    def doubled(weights: WeightSource) -> WeightSource:
        state: dict[str, Tensor] = {
            name: 2 * weight - base[name] for name, weight in full_weights(weights).tensors("model")
        }
        return StateDictWeights(state=state, version=weights.version)

    arriving(engine, monkeypatch, doubled)
    with pytest.raises(UserError, match=r"random numbers, .* Use engine 'local', or with vLLM"):
        check(learner, engine)


def test_an_engine_with_another_base() -> None:
    learner = learner_with_adapter()
    engine = engine_of(learner)
    sync = engine._model.sync

    def other(weights: WeightSource) -> None:
        sync(weights)
        with torch.no_grad():
            for weight in engine._model.model.parameters():
                weight.mul_(0.5)

    engine._model.sync = other
    with pytest.raises(UserError, match="With an adapter of zeros, the engine does not compute"):
        check(learner, engine)


def adapter_layers(learner: LocalLearner) -> list[Any]:
    return [m for m in learner.policy.model.modules() if hasattr(m, "get_delta_weight")]


def test_a_trainer_that_never_applies_it() -> None:
    learner = learner_with_adapter()
    engine = engine_of(learner)
    for layer in adapter_layers(learner):
        layer.forward = layer.get_base_layer().forward
    with pytest.raises(UserError, match="changes the trainer's log-probabilities by only 0 nats"):
        check(learner, engine)


def test_an_adapter_of_zeros_that_changes_the_trainer() -> None:
    learner = learner_with_adapter()
    layer = adapter_layers(learner)[0]
    forward = layer.forward

    def shifted(*args: Any, **options: Any) -> Tensor:
        return forward(*args, **options) + (0 if layer.disable_adapters else 1)

    layer.forward = shifted
    with pytest.raises(UserError, match="An adapter of zeros changes the trainer's"):
        check(learner, engine_of(learner))
