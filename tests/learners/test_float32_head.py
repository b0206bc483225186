"""A bfloat16 learner with a float32 head: its masters, checkpoints, reference and mismatch."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from steadyrl.analysis.mismatch.passes import Order, Source, rescore
from steadyrl.engines.engine_policy import engine_policy
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.learners.reference import load_reference, save_reference
from steadyrl.policies.loading import load_model, load_tokenizer, set_dtype
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.policies.rounding import Rounding
from steadyrl.records.routing import RoutingReplay
from steadyrl.training.checkpoint import load_checkpoint, save_checkpoint
from steadyrl.training.stage import RunPosition
from tests.learners.small import (
    TINY_MOE,
    UNCLIPPED,
    largest_difference,
    logprobs_of,
    made_up_batch,
    sampled_batch,
    step,
    weights_of,
)

TIED = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])


def learner_with_float32_head(tied: bool, rounding: Rounding = "nearest") -> LocalLearner:
    model = load_model(TINY_MOE, tokenizer=load_tokenizer(TINY_MOE), seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
    model.config.tie_word_embeddings = tied
    model.tie_weights()
    masters = set_dtype(model, torch.bfloat16, "float32")
    settings = LocalLearnerSettings(dtype="bfloat16", head_dtype="float32", rounding=rounding)
    policy = Policy(model, load_tokenizer(TINY_MOE))
    learner = LocalLearner(policy, settings, replay=RoutingReplay.NONE, masters=masters, seed=5)
    learner.begin_stage(UNCLIPPED, 1.0, fresh=True)
    return learner


def trained(tied: bool, rounding: Rounding = "nearest") -> LocalLearner:
    learner = learner_with_float32_head(tied, rounding)
    for seed in (1, 2):
        step(learner, made_up_batch(seed=seed))
    return learner


@TIED
def test_a_head_of_its_own_is_its_own_master(tied: bool) -> None:
    learner = trained(tied)
    head = learner.policy.model.get_output_embeddings().weight
    (name,) = (n for n, w in learner.policy.model.named_parameters() if w is head)

    assert (learner.optimizer.masters[name] is head) == (not tied)
    assert (head.dtype == torch.float32) == (not tied)
    assert torch.equal(head, learner.optimizer.masters[name].to(head.dtype))
    assert not torch.equal(learner.optimizer.masters[name].bfloat16().float(), head) or tied


@TIED
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_a_loaded_learner_goes_on_to_the_same_bits(
    tied: bool, rounding: Rounding, tmp_path: Path
) -> None:
    learner = trained(tied, rounding)
    save_checkpoint(tmp_path / "rl-000002", learner, RunPosition(stage=1, step=2))
    loaded = learner_with_float32_head(tied, rounding)
    load_checkpoint(tmp_path / "rl-000002", loaded)

    for seed in (3, 4):
        assert largest_difference(weights_of(loaded), weights_of(learner)) == 0
        assert largest_difference(loaded.optimizer.state(), learner.optimizer.state()) == 0
        for each in (loaded, learner):
            step(each, made_up_batch(seed=seed))


@TIED
def test_transformers_loads_a_checkpoint_as_a_plain_bfloat16_model(
    tied: bool, tmp_path: Path
) -> None:
    learner = trained(tied)
    save_checkpoint(tmp_path / "model", learner, RunPosition())
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    head = learner.policy.model.get_output_embeddings().weight

    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert type(model.lm_head) is nn.Linear
    expected = {name: weight.bfloat16() for name, weight in weights_of(learner).items()}
    assert largest_difference(dict(model.state_dict()), expected) == 0
    if not tied:
        assert torch.equal(load_file(tmp_path / "model/model.safetensors")["lm_head.weight"], head)


@TIED
def test_a_reference_has_the_head_of_the_policy(tied: bool, tmp_path: Path) -> None:
    policy = learner_with_float32_head(tied).policy
    save_reference(tmp_path / "reference", policy)
    reference = load_reference(tmp_path / "reference", policy)
    tokens = made_up_batch().tokens

    assert reference.head_dtype == "float32"
    assert torch.equal(logprobs_of(reference, tokens), logprobs_of(policy, tokens))


@TIED
def test_what_the_engines_head_adds_to_the_mismatch_is_counted_as_numerics(tied: bool) -> None:
    policy = learner_with_float32_head(tied).policy
    batch = sampled_batch(policy, numerics=Numerics.BFLOAT16)
    changes = {}
    for head_dtype in ("model", "float32"):
        engine = engine_policy(
            policy, Numerics.BFLOAT16, WeightScaling.CHANNEL, head_dtype=head_dtype
        )
        rescored = rescore(batch, engine=engine, old=policy)
        before, after = rescored.steps(Order.ROUTES_LAST)[Source.NUMERICS]
        changes[head_dtype] = float((after - before).abs().max())

    # The trunks are the same, to the bit; the head alone differs.
    assert changes["float32"] == 0
    assert changes["model"] > 0
