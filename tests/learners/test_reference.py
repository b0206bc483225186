"""The reference: what it is at the start, how it pulls, and how it is kept."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from steadyrl.base.errors import UserError
from steadyrl.learners.local import LocalLearner
from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.reference import load_reference, save_reference
from steadyrl.objectives import (
    MiniRL,
    ReferenceKL,
    TokenTerms,
    reference_divergence,
)
from steadyrl.objectives.measurements import policy_metrics
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import SmallDense
from steadyrl.policies.policy import Policy
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch
from tests.closeness import assert_close
from tests.function_objective import FunctionObjective
from tests.learners.small import (
    largest_difference,
    made_up_batch,
    sampled_batch,
    step,
    term_on,
    tiny_learner,
    tiny_policy,
    weights_of,
)

COEFFICIENT = 0.5
PENALIZED = ReferenceKL(coefficient=COEFFICIENT).apply_to(MiniRL())


def held(learner: LocalLearner, path: Path) -> LocalLearner:
    """`learner` held to its present weights."""
    learner.save_reference(path / "reference")
    learner.load_reference(path / "reference")
    return learner


def held_term(batch: TokenBatch) -> LossTerm:
    return term_on(batch, PENALIZED)


def moved(learner: LocalLearner) -> None:
    """Takes the weights a good way off."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in learner.policy.model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator).to(weight.dtype))


def reference_kl(learner: LocalLearner, terms: Sequence[LossTerm]) -> float:
    tokens = learner.update(terms, step=0, steps=2).measurements
    return policy_metrics(tokens)["reference_kl"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("replay", RoutingReplay)
@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_at_the_start_the_distance_is_zero_to_the_bit_and_grows_from_there(
    dtype: torch.dtype, replay: RoutingReplay, checkpointing: bool, tmp_path: Path
) -> None:
    learner = held(
        tiny_learner(dtype=dtype, replay=replay, activation_checkpointing=checkpointing), tmp_path
    )
    batch = sampled_batch(learner.policy)
    assert reference_kl(learner, [held_term(batch)]) == 0
    learner.replay = RoutingReplay.NONE
    assert reference_kl(learner, [held_term(batch)]) > 0


def test_without_a_penalty_a_step_at_the_reference_is_the_same(tmp_path: Path) -> None:
    batch = made_up_batch()
    learner = held(tiny_learner(), tmp_path)
    learner.update([held_term(batch)], step=0, steps=1)

    gradients = learner.optimizer.gradients(), step(tiny_learner(), batch)
    assert_close(*gradients)


def scores(policy: Policy, batch: TokenBatch) -> Tensor:
    return policy.score(batch.tokens, batch.attention_mask, batch.loss_mask).logprobs


def test_the_gradient_is_that_of_the_loss_written_out(tmp_path: Path) -> None:
    batch = made_up_batch()
    learner = held(tiny_learner(micro_batch_tokens=24), tmp_path)
    moved(learner)
    weights = weights_of(learner)
    update = learner.update([held_term(batch)], step=0, steps=1)

    twin = tiny_policy()
    ref = scores(twin, batch).detach()
    twin.model.load_state_dict(weights)
    logprobs = scores(twin, batch)
    weight = (logprobs.detach() - batch.rollout_logprobs).exp().clamp(max=5.0)
    d = ref - logprobs
    assert float(d.detach()[batch.loss_mask].abs().max()) > 0.1
    k3 = (d.exp() - 1 - d).clamp(max=10.0)
    loss = -weight * batch.advantages * logprobs + COEFFICIENT * k3
    total = loss[batch.loss_mask].sum() / len(batch)
    total.backward()
    expected = {name: w.grad for name, w in twin.model.named_parameters()}
    assert_close(learner.optimizer.gradients(), expected)
    assert_close(update.loss, total.item())


def test_rows_without_advantage_are_pulled_back(tmp_path: Path) -> None:
    batch = made_up_batch((0.0, 0.0, 0.0))
    learner = held(tiny_learner(), tmp_path)
    moved(learner)
    distances = [reference_kl(learner, [held_term(batch)]) for _ in range(8)]

    assert distances[0] > 1.2 * distances[-1] > 0


@pytest.mark.parametrize("replay", [RoutingReplay.R2, RoutingReplay.R3])
@pytest.mark.parametrize("scored", [False, True])
def test_the_reference_takes_the_routes_of_the_row(
    replay: RoutingReplay, scored: bool, tmp_path: Path
) -> None:
    learner = held(tiny_learner(replay=replay), tmp_path)
    reference = learner.reference
    assert reference is not None
    batch = sampled_batch(learner.policy)
    moved(learner)
    batch = learner.score(batch) if scored else batch
    routes = learner.policy.score(
        batch.tokens, batch.attention_mask, batch.loss_mask, record_routing=True
    ).routing
    routes = batch.rollout_routing if replay is RoutingReplay.R3 else routes
    along, live = (
        reference.score(batch.tokens, batch.attention_mask, batch.loss_mask, replay=r).logprobs
        for r in (routes, None)
    )
    seen: list[Tensor] = []

    def noting(terms: TokenTerms) -> Tensor:
        assert terms.ref_logprobs is not None
        seen.append(terms.ref_logprobs[terms.loss_mask])
        return MiniRL()(terms) - reference_divergence(terms)

    objective = FunctionObjective(function=noting, like=PENALIZED)
    learner.update([term_on(batch, objective)], step=0, steps=1)
    found = torch.cat(seen).sort().values
    assert_close(found, along[batch.loss_mask].sort().values)
    assert float((along - live).abs().max()) > 1e-3


def test_a_reference_is_not_trained(tmp_path: Path) -> None:
    learner = held(tiny_learner(), tmp_path)
    assert learner.reference is not None
    before = {n: w.clone() for n, w in learner.reference.model.state_dict().items()}
    for seed in (1, 2):
        learner.update([held_term(made_up_batch(seed=seed))], step=0, steps=1)

    assert largest_difference(learner.reference.model.state_dict(), before) == 0
    assert largest_difference(weights_of(learner), before) > 0
    assert not any(weight.requires_grad for weight in learner.reference.model.parameters())


# On disk.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_reference_comes_back_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    policy = tiny_policy(dtype)
    save_reference(tmp_path / "rl", policy)
    other = tiny_learner(dtype=dtype)
    moved(other)
    loaded = load_reference(tmp_path / "rl", other.policy)

    assert loaded.model.dtype == dtype
    assert largest_difference(loaded.model.state_dict(), policy.model.state_dict()) == 0
    batch = made_up_batch()
    assert torch.equal(scores(loaded, batch), scores(policy, batch))


def test_tied_weights_are_kept_once_and_stay_tied(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(SmallDense())
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
    )
    policy = Policy(Qwen3ForCausalLM(config).eval(), tokenizer)
    save_reference(tmp_path / "rl", policy)
    loaded = load_reference(tmp_path / "rl", policy).model

    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    assert largest_difference(loaded.state_dict(), policy.model.state_dict()) == 0


def test_a_damaged_or_missing_reference_is_refused(tmp_path: Path) -> None:
    policy, path = tiny_policy(), tmp_path / "rl"
    with pytest.raises(UserError, match=r"missing or damaged: FileNotFoundError.*start the run an"):
        load_reference(path, policy)
    save_reference(path, policy)
    file = path / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"weights.safetensors has changed since it was written"):
        load_reference(path, policy)
    (path / "sha256.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match="KeyError while reading it"):
        load_reference(path, policy)


def test_the_reference_of_another_model_is_refused(tmp_path: Path) -> None:
    settings = SmallDense(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, mlp_width=16)
    tokenizer = load_tokenizer(settings)
    save_reference(tmp_path, Policy(load_model(settings, tokenizer=tokenizer, seed=1), tokenizer))

    with pytest.raises(UserError, match="holds another model than the run's configuration"):
        load_reference(tmp_path, tiny_policy())
