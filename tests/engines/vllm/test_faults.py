"""Faults of syncs into vLLM, each of which stops a run."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from steadyrl.engines.canary import CanaryError, CanarySettings, make_probes
from steadyrl.engines.driver import drive
from steadyrl.engines.served_model import weights_of
from steadyrl.engines.vllm import weights, worker
from steadyrl.engines.vllm.engine import VllmEngine
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.weight_source import AdapterWeights, StateDictWeights, WeightSource
from steadyrl.training.checked_engine import CheckedEngine
from tests.engines.vllm.models import olmoe, qwen3, qwen3_moe
from tests.engines.vllm.serving import perturb, served

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm

Q = "model.layers.{}.self_attn.q_proj.weight"
UP = "model.layers.2.mlp.experts.{}.up_proj.weight"

Weights = dict[str, Tensor]
Checked = tuple[CheckedEngine, VllmEngine, LocalLearner]


def checked(policy: Policy, engine: VllmEngine) -> Checked:
    learner = LocalLearner(policy, LocalLearnerSettings(), replay=RoutingReplay.NONE)
    settings = CanarySettings(every=1)
    tokens = range(3, policy.vocabulary_size)
    return (
        CheckedEngine(engine, learner, make_probes(tokens, settings, 256), settings),
        engine,
        learner,
    )


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def served_moe(request: pytest.FixtureRequest) -> Iterator[tuple[Policy, VllmEngine]]:
    policy = qwen3_moe()
    with served(policy, numerics=request.param) as engine:
        yield policy, engine


@pytest.fixture
def moe(served_moe: tuple[Policy, VllmEngine]) -> Checked:
    """An engine whose first sync has been proven, and a learner that has moved since then."""
    policy, engine = served_moe
    found = checked(policy, engine)
    drive(found[0].sync(found[2].publish()))
    perturb(policy, 0.02, seed=7)
    found[2].policy_version = 1
    return found


def sync_of(moe: Checked) -> None:
    drive(moe[0].sync(moe[2].publish()))


def arriving(
    engine: VllmEngine, patch: pytest.MonkeyPatch, fault: Callable[[Weights], Weights]
) -> None:
    """Lets something else arrive than what is sent."""
    sync = engine.sync

    async def faulty(source: WeightSource) -> None:
        state = fault(dict(source.tensors("checkpoint")))
        await sync(StateDictWeights(state=state, version=source.version))

    patch.setattr(engine, "sync", faulty)


def test_a_sync_that_works_passes(moe: Checked) -> None:
    sync_of(moe)
    limit = 1e-4 if moe[1]._model.round_weight.dtype is torch.float32 else 0.1
    assert moe[0].sync_metrics["canary_difference"] < limit


def test_experts_that_a_reload_leaves_unpacked(
    moe: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_prepare", lambda _: None)
    with pytest.raises(CanaryError, match="After the sync of version 1") as error:
        sync_of(moe)
    for layer in (0, 2, 3):
        assert f"model.layers.{layer}.mlp.experts.routed_experts.w13_weight" in str(error.value)


def test_two_tensors_swapped(moe: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Q.format(0), Q.format(3)
    arriving(moe[1], monkeypatch, lambda w: {**w, one: w[other], other: w[one]})
    with pytest.raises(CanaryError) as error:
        sync_of(moe)
    fused = [f"model.layers.{layer}.self_attn.qkv_proj.weight" for layer in (0, 3)]
    assert f"differ from those that were sent: {', '.join(fused)}. Resume" in str(error.value)


def test_a_tensor_of_another_expert(moe: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    arriving(moe[1], monkeypatch, lambda w: {**w, UP.format(3): w[UP.format(4)]})
    with pytest.raises(
        CanaryError, match=r"sent: model\.layers\.2\.mlp\.experts\.\w+\.w13_weight\."
    ):
        sync_of(moe)


def test_half_of_the_tensors_are_old(moe: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    perturb(moe[2].policy, -0.02, seed=7)
    before = {name: weight.clone() for name, weight in moe[2].publish().tensors()}
    perturb(moe[2].policy, 0.02, seed=7)
    old = list(before)[: len(before) // 2]
    arriving(moe[1], monkeypatch, lambda w: {**w, **{name: before[name] for name in old}})
    with pytest.raises(CanaryError, match="differ from those that were sent"):
        sync_of(moe)


def test_nothing_arrives(moe: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "reload_weights", lambda *_: None)
    with pytest.raises(CanaryError, match="differ from those that were sent"):
        sync_of(moe)


def test_keys_and_values_of_old_weights_are_kept(
    moe: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "drop_caches", lambda _: None)
    with pytest.raises(CanaryError, match="keys and values") as error:
        sync_of(moe)
    assert "All of its tensors are those that were sent" in str(error.value)


def test_a_model_that_vllm_computes_otherwise() -> None:
    with served(olmoe(norm_topk_prob=True), numerics="bfloat16") as engine:
        policy = olmoe(norm_topk_prob=True)
        check = checked(policy, engine)
        with pytest.raises(CanaryError, match="At the first sync, ") as error:
            sync_of(check)
    assert "All of its tensors are those that were sent" in str(error.value)


def adapter(rank: int, seed: int, version: int) -> AdapterWeights:
    """A random LoRA adapter of the query and up projections of two layers of `qwen3`."""
    generator = torch.Generator().manual_seed(seed)
    state: Weights = {}
    for layer in range(2):
        for name in ("self_attn.q_proj", "mlp.up_proj"):
            path = f"base_model.model.model.layers.{layer}.{name}"
            state[f"{path}.lora_A.weight"] = torch.randn(rank, 64, generator=generator) / 8
            state[f"{path}.lora_B.weight"] = torch.randn(64, rank, generator=generator) / 8
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": ["q_proj", "up_proj"],
        "bias": "none",
    }
    return AdapterWeights(state=state, adapter_config=config, version=version)


def merge(policy: Policy, weights: AdapterWeights, sign: int = 1) -> None:
    """Adds an adapter with a scaling of 1 to the trainer's own weights, or takes it away."""
    parameters = dict(policy.model.named_parameters())
    for name, down in weights.state.items():
        if "lora_A" in name:
            up = weights.state[name.replace("lora_A", "lora_B")]
            target = name.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
            with torch.no_grad():
                parameters[target].add_(up @ down, alpha=sign)


@pytest.fixture(scope="module")
def served_with_adapters() -> Iterator[tuple[Policy, VllmEngine]]:
    policy = qwen3()
    with served(policy, adapter_rank=8) as engine:
        yield policy, engine


@pytest.fixture
def adapted(served_with_adapters: tuple[Policy, VllmEngine]) -> Checked:
    """A base model that has been proven, and a learner that holds it with an adapter merged."""
    base, engine = served_with_adapters
    found = checked(qwen3(), engine)
    drive(found[0].sync(weights_of(base)))
    merge(found[2].policy, adapter(4, 1, 1))
    return found


def test_an_adapter_arrives_and_so_does_the_next_one(adapted: Checked) -> None:
    engine, vllm, learner = adapted
    drive(engine.sync(adapter(4, 1, 1)))
    assert engine.sync_metrics["canary_difference"] < 1e-4
    assert engine.policy_version == 1
    merge(learner.policy, adapter(4, 1, 1), sign=-1)
    merge(learner.policy, adapter(8, 2, 2))
    drive(engine.sync(adapter(8, 2, 2)))
    assert engine.sync_metrics["canary_difference"] < 1e-4
    assert len(vllm.vllm.list_loras()) == 1


def test_an_adapter_that_is_loaded_and_not_used(
    adapted: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = weights.load_adapter

    def loaded(*args: Any) -> None:
        real(*args)

    monkeypatch.setattr("steadyrl.engines.vllm.engine.load_adapter", loaded)
    with pytest.raises(CanaryError, match="After the sync of version 1"):
        drive(adapted[0].sync(adapter(4, 1, 1)))


def test_an_adapter_under_the_name_of_the_one_before(
    adapted: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, vllm, learner = adapted
    drive(engine.sync(adapter(4, 1, 1)))
    held = vllm._runner.adapter
    merge(learner.policy, adapter(4, 1, 1), sign=-1)
    merge(learner.policy, adapter(4, 2, 2))
    monkeypatch.setattr("steadyrl.engines.vllm.engine.load_adapter", lambda *_: held)
    with pytest.raises(CanaryError, match="After the sync of version 2"):
        drive(engine.sync(adapter(4, 2, 2)))


def test_a_failure_brings_the_adapter_back(adapted: Checked) -> None:
    engine, vllm, _ = adapted
    drive(engine.sync(adapter(4, 1, 1)))
    probe = torch.arange(5, 40)
    (before,) = drive(engine.score([probe]))

    def fail() -> Any:
        raise RuntimeError("lost")

    vllm.vllm.step = fail
    with pytest.warns(RuntimeWarning, match="lost"):
        (after,) = drive(engine.score([probe]))
    assert torch.equal(before, after)
