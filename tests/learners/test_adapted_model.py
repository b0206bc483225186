"""A learner that trains an adapter: updates, what it publishes, saves and refers to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.engines.engine_model import EngineModel
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.objectives import ReferenceKL
from steadyrl.objectives.measurements import policy_metrics
from steadyrl.policies.lora import LoraSettings
from steadyrl.policies.merged_weights import base_weights
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.weight_source import full_weights
from tests.closeness import assert_close
from tests.learners.small import (
    MINIRL,
    UNCLIPPED,
    largest_difference,
    made_up_batch,
    sampled_batch,
    step,
    term_on,
    tiny_learner,
    tiny_policy,
    weights_of,
)

LORA = LoraSettings(rank=4, alpha=8.0, experts=True)
ATTENTION = LoraSettings(rank=4, alpha=8.0)
PENALIZED = ReferenceKL(coefficient=0.3).apply_to(MINIRL)


def lora_learner(lora: LoraSettings = LORA, **settings: Any) -> LocalLearner:
    return tiny_learner(lora=lora, **settings)


def trained(**settings: Any) -> LocalLearner:
    learner = lora_learner(**settings)
    for seed in (1, 2):
        step(learner, made_up_batch(seed=seed))
    return learner


def merged(learner: LocalLearner) -> dict[str, torch.Tensor]:
    weights = full_weights(learner.publish()).tensors("model")
    return {name: weight.clone() for name, weight in weights}


def whole_policy(learner: LocalLearner) -> Policy:
    """A policy without an adapter that has the learner's merged weights."""
    policy = tiny_policy()
    policy.model.load_state_dict(merged(learner))
    return policy


# Updates.


def test_updates_move_the_adapter_and_never_the_base() -> None:
    learner = lora_learner()
    base = {name: weight.clone() for name, weight in base_weights(learner.policy.model).items()}
    before = weights_of(learner)
    first = step(learner, made_up_batch())
    # B is zero at first, so that A has no gradient.
    assert all(bool(g.any()) == ("lora_B" in name) for name, g in first.items())
    second = step(learner, made_up_batch(seed=1))
    assert all(bool(gradient.any()) for gradient in second.values())
    assert first.keys() == before.keys() == learner.optimizer.masters.keys()
    assert largest_difference(base_weights(learner.policy.model), base) == 0
    assert largest_difference(weights_of(learner), before) > 1e-4


def test_an_update_can_raise_the_likelihood() -> None:
    learner, batch = lora_learner(), made_up_batch((1.0, 1.0, 1.0))
    mask = batch.loss_mask
    before = learner.score(batch).old_logprobs[mask].mean()
    for _ in range(5):
        step(learner, batch)
    assert learner.score(batch).old_logprobs[mask].mean() > before + 0.05


@pytest.mark.parametrize(
    "settings",
    [{"micro_batch_tokens": 24}, {"activation_checkpointing": True}, {"share_prefixes": "always"}],
    ids=["cut", "recomputed", "shared"],
)
def test_the_gradient_is_the_same_however_it_is_computed(settings: dict[str, Any]) -> None:
    batch = sampled_batch(tiny_policy())
    expected = step(trained(), batch)
    assert_close(step(trained(**settings), batch), expected)


@pytest.mark.parametrize("replay", [RoutingReplay.R2, RoutingReplay.R3])
def test_replayed_routes_are_those_of_the_pass(replay: RoutingReplay) -> None:
    def disagreements(learner: LocalLearner) -> list[float]:
        """With the engine's routes, in three updates on one batch."""
        batch = learner.score(sampled_batch(tiny_policy()))
        updates = [learner.update([term_on(batch)], step=0, steps=1) for _ in range(3)]
        assert all(bool(gradient.any()) for gradient in learner.optimizer.gradients().values())
        return [policy_metrics(each.measurements)["routing_disagreement"] for each in updates]

    learner = trained()
    live = disagreements(learner)
    assert len({*live}) > 1
    learner.replay = replay
    replayed = disagreements(learner)
    # R2 replays the routes under the weights before the first update, R3 those of the engine.
    assert {*replayed} == {0.0 if replay is RoutingReplay.R3 else replayed[0]}
    assert (replayed[0] > 0) == (replay is RoutingReplay.R2)


def test_only_the_adapter_has_masters_over_a_bfloat16_base() -> None:
    learner = lora_learner(ATTENTION, dtype=torch.bfloat16)
    base = {name: weight.clone() for name, weight in base_weights(learner.policy.model).items()}
    update = learner.update([term_on(made_up_batch())], step=0, steps=1)
    assert update.gradient_norm > 1e-3
    assert update.reach.update_reached == 1.0
    parameters = learner.trained.parameters()
    assert learner.optimizer.masters.keys() == parameters.keys()
    assert all(learner.optimizer.masters[name] is weight for name, weight in parameters.items())
    assert not any(name.startswith("master/") for name in learner.optimizer.state())
    assert largest_difference(base_weights(learner.policy.model), base) == 0


# What engines get.


@pytest.mark.parametrize("numerics", [Numerics.FLOAT32, Numerics.FP8])
def test_an_engine_samples_from_the_merged_weights(numerics: Numerics) -> None:
    learner = trained()
    engine, expected = (
        EngineModel(
            policy, numerics=numerics, weight_scaling=WeightScaling.CHANNEL, record_routing=False
        )
        for policy in (tiny_policy(), whole_policy(learner))
    )
    learner.policy_version = 2
    rows = list(made_up_batch().tokens)
    before = torch.stack(engine.score(rows, 1000))
    engine.sync(learner.publish())
    after = torch.stack(engine.score(rows, 1000))
    assert engine.policy_version == 2
    assert torch.equal(after, torch.stack(expected.score(rows, 1000)))
    assert float((after - before).abs().max()) > 1e-2
    assert engine.differing_tensors(learner.publish()) == []
    if numerics is Numerics.FLOAT32:
        batch = made_up_batch()
        scores = learner.score(batch).old_logprobs
        assert_close(after[batch.loss_mask], scores[batch.loss_mask])


def test_an_engine_made_of_an_adapted_policy_has_its_merged_weights() -> None:
    learner = trained()
    engine = EngineModel(
        learner.policy,
        numerics=Numerics.FLOAT32,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=False,
    )
    assert largest_difference(engine.model.state_dict(), merged(learner)) == 0


def test_merged_weights_have_the_names_of_the_checkpoint() -> None:
    names = {name for name, _ in full_weights(lora_learner().publish()).tensors("checkpoint")}
    expected = {name for name, _ in tiny_learner().publish().tensors("checkpoint")}
    assert names == expected
    assert "model.layers.0.mlp.experts.3.up_proj.weight" in names


def test_the_adapter_is_published_under_the_names_of_peft() -> None:
    source = lora_learner(ATTENTION).publish()
    names = {name for name, _ in source.tensors()}
    assert source.kind == "adapter"
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names
    assert source.adapter_config["r"] == 4
    assert source.adapter_config["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]


# On disk.


def test_a_saved_learner_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    learner = trained()
    learner.save(tmp_path)
    resumed = lora_learner()
    resumed.load(tmp_path, policy_version=2)
    assert resumed.policy_version == 2
    assert not (tmp_path / "model.safetensors").exists()
    for each in (learner, resumed):
        step(each, made_up_batch(seed=3))
    assert largest_difference(weights_of(resumed), weights_of(learner)) == 0


def test_a_checkpoint_of_another_adapter_is_refused(tmp_path: Path) -> None:
    trained().save(tmp_path)
    with pytest.raises(UserError, match=r"holds another model .* Weight names differ"):
        lora_learner(ATTENTION).load(tmp_path, policy_version=2)
    tiny_learner().save(tmp_path / "whole")
    with pytest.raises(UserError, match=r"There is no adapter_model\.safetensors"):
        lora_learner().load(tmp_path / "whole", policy_version=2)


def test_a_broken_adapter_is_not_saved(tmp_path: Path) -> None:
    learner = trained()
    name, weight = next(iter(learner.trained.parameters().items()))
    weight.data[0, 0] = torch.nan
    with pytest.raises(UserError, match=f"{name} is not finite. No checkpoint"):
        learner.save(tmp_path)
    assert not list(tmp_path.iterdir())


# The reference policy.


def test_the_reference_is_the_adapter_of_the_beginning_over_the_same_base(tmp_path: Path) -> None:
    learner, batch = trained(), made_up_batch()
    begun = learner.score(batch).old_logprobs
    learner.save_reference(tmp_path / "rl")
    learner.load_reference(tmp_path / "rl")
    at_first = learner.update([term_on(batch, PENALIZED)], step=0, steps=9)
    assert torch.equal(at_first.measurements.ref_logprobs, at_first.measurements.logprobs)
    for _ in range(3):
        later = learner.update([term_on(batch, PENALIZED)], step=0, steps=9)
    order = begun[batch.loss_mask].sort().values
    assert_close(later.measurements.ref_logprobs.sort().values, order)
    assert float((later.measurements.ref_logprobs - later.measurements.logprobs).abs().max()) > 1e-2
    published = dict(learner.publish_reference().tensors())
    assert published.keys() == learner.trained.parameters().keys()
    learner.load_reference(None)
    assert learner.reference is None


def test_the_gradient_with_a_reference_is_that_of_whole_policies(tmp_path: Path) -> None:
    learner, batch = trained(), made_up_batch()
    learner.save_reference(tmp_path / "rl")
    learner.load_reference(tmp_path / "rl")
    step(learner, made_up_batch(seed=5))
    whole = LocalLearner(whole_policy(learner), LocalLearnerSettings(), replay=RoutingReplay.NONE)
    whole.begin_stage(UNCLIPPED, 1.0, fresh=True)
    begun = LocalLearner(whole_policy(trained()), LocalLearnerSettings(), replay=RoutingReplay.NONE)
    begun.save_reference(tmp_path / "whole")
    whole.load_reference(tmp_path / "whole")
    of_whole = step(whole, batch, objective=PENALIZED)
    found = step(learner, batch, objective=PENALIZED)
    # dL/dB = s dL/dW A^T
    prefix, path = "base_model.model.", "model.layers.1.self_attn.q_proj"
    a = learner.trained.parameters()[f"{prefix}{path}.lora_A.weight"]
    update = found[f"{prefix}{path}.lora_B.weight"]
    assert float(update.abs().max()) > 1e-3
    # A moved with the step that was just taken: its value in the pass is one step back.
    learner.load_reference(None)
    twin = trained()
    step(twin, made_up_batch(seed=5))
    a = twin.trained.parameters()[f"{prefix}{path}.lora_A.weight"]
    assert_close(update, 2.0 * of_whole[f"{path}.weight"] @ a.T, terms=1024)


# Settings.


def test_rounding_of_masters_does_nothing_with_an_adapter() -> None:
    with pytest.raises(ValidationError, match=r"nothing is rounded. Leave rounding out"):
        LocalLearnerSettings(lora=ATTENTION, dtype="bfloat16", rounding="nearest")


def test_bfloat16_experts_are_not_adapted() -> None:
    with pytest.raises(ValidationError, match="small changes round to nothing"):
        LocalLearnerSettings(lora=LORA, dtype="bfloat16")


def test_weights_of_an_adapter_depend_on_the_seed() -> None:
    one, other = (
        LocalLearner(
            tiny_policy(), LocalLearnerSettings(lora=LORA), replay=RoutingReplay.NONE, seed=seed
        )
        for seed in (1, 2)
    )
    assert largest_difference(weights_of(one), weights_of(other)) > 0
    assert largest_difference(merged(one), merged(other)) == 0
