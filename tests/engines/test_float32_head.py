"""Engines whose output head computes in float32, whatever they compute in below it."""

import pytest
import torch
from torch import Tensor

from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Sampling
from steadyrl.engines.reference import ReferenceEngine
from steadyrl.policies.float32_head import HeadDtype
from steadyrl.policies.loading import set_dtype
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import character_tokenizer
from tests.closeness import assert_close
from tests.driving import generate
from tests.engines.builders import gemma2, qwen3, some_requests
from tests.policies.families import VOCABULARY, scaled_up


def policy_of_last_tokens(build, head_dtype: HeadDtype = "float32") -> Policy:
    """A bfloat16 policy whose states are the normed embeddings, the same bits in every kernel."""
    model = scaled_up(build)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                weight.zero_()
    set_dtype(model, torch.bfloat16, head_dtype)
    return Policy(model, character_tokenizer(), hook_routing=False)


def engine_of(policy: Policy, numerics: Numerics, head_dtype: HeadDtype = "float32") -> EngineModel:
    return EngineModel(
        policy,
        numerics=numerics,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=False,
        head_dtype=head_dtype,
    )


@torch.no_grad()
def exact_logprobs(policy: Policy, tokens: Tensor) -> Tensor:
    """Log-probability of each token but the first, its logits computed in float64."""
    states = policy.model.base_model(input_ids=tokens[None, :-1]).last_hidden_state[0]
    logits = states.double() @ policy.model.get_output_embeddings().weight.double().T
    cap = getattr(policy.model.config, "final_logit_softcapping", None)
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    return logits.log_softmax(dim=-1).gather(-1, tokens[1:, None]).squeeze(-1)


@pytest.mark.parametrize("build", [qwen3, gemma2])
@pytest.mark.parametrize("numerics", [Numerics.BFLOAT16, Numerics.FP8])
def test_both_engines_record_logprobs_that_no_logit_was_rounded_for(build, numerics) -> None:
    policy = policy_of_last_tokens(build)
    local = LocalEngine(engine_of(policy, numerics), max_running=4)
    reference = ReferenceEngine(engine_of(policy, numerics))
    for engine in (local, reference):
        for answers in generate(engine, some_requests(), Sampling(max_new_tokens=6)):
            for answer in answers:
                tokens = torch.cat([answer.prompt_ids, answer.token_ids])
                expected = exact_logprobs(policy, tokens)[-len(answer.token_ids) :]
                assert_close(answer.logprobs, expected, terms=VOCABULARY)


@pytest.mark.parametrize("build", [qwen3, gemma2])
def test_the_head_takes_over_every_bit_of_the_weights_at_each_load(build) -> None:
    trainer = scaled_up(build)
    policy = Policy(trainer, character_tokenizer(), hook_routing=False)  # in float32
    engine = engine_of(policy, Numerics.BFLOAT16)
    head, embedding = (
        getattr(engine.model, f"get_{which}_embeddings")().weight for which in ("output", "input")
    )
    for version in (1, 2):
        with torch.no_grad():
            trainer.get_output_embeddings().weight.mul_(1.01)
        engine.load_weights(trainer.state_dict(), version)
        assert torch.equal(head, trainer.get_output_embeddings().weight)
        assert torch.equal(embedding, trainer.get_input_embeddings().weight.bfloat16())


def test_a_float32_head_of_the_engine_does_not_depend_on_the_trainers() -> None:
    for trainer in ("model", "float32"):
        policy = policy_of_last_tokens(qwen3, trainer)
        for head_dtype in ("model", "float32"):
            engine = engine_of(policy, Numerics.BFLOAT16, head_dtype)
            with torch.no_grad():
                logits = engine.model(input_ids=torch.arange(4)[None]).logits
            assert engine.head.dtype == head_dtype
            assert logits.dtype == (torch.float32 if head_dtype == "float32" else torch.bfloat16)
