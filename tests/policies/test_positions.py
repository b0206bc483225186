"""How many tokens a row may have, where a model changes its rotary frequencies."""

from collections.abc import Callable

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
)

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import Sampling
from steadyrl.policies.policy import Policy
from steadyrl.policies.positions import frequency_change, max_positions
from steadyrl.policies.tokenizers import character_tokenizer
from tests.closeness import assert_close
from tests.driving import generate
from tests.engines.builders import gpt2, local_engine, qwen3, reference_engine, some_requests
from tests.policies.families import SHARED, VOCABULARY, scaled_up

CHANGE = 16
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": CHANGE,
}


def phi3() -> PreTrainedModel:
    config = Phi3Config(
        **SHARED,
        intermediate_size=16,
        rope_parameters=dict(LONGROPE),
        original_max_position_embeddings=CHANGE,
    )
    return Phi3ForCausalLM(config)


def llama_dynamic() -> PreTrainedModel:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    sizes = SHARED | {"max_position_embeddings": CHANGE}
    return LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=16, rope_parameters=rope))


def gemma3_by_layer() -> PreTrainedModel:
    config = Gemma3TextConfig(
        **SHARED,
        head_dim=16,
        intermediate_size=16,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": dict(LONGROPE),
        },
    )
    return Gemma3ForCausalLM(config)


@pytest.mark.parametrize("build", [phi3, llama_dynamic, gemma3_by_layer])
def test_frequencies_change_where_the_configuration_says(
    build: Callable[[], PreTrainedModel],
) -> None:
    assert frequency_change(build()) == CHANGE
    assert max_positions(build()) == CHANGE


def test_without_a_change_positions_are_those_of_the_configuration() -> None:
    for build, positions in ((qwen3, 128), (gpt2, 64)):
        assert frequency_change(build()) is None
        assert max_positions(build()) == positions


@pytest.mark.parametrize("build", [phi3, llama_dynamic, gemma3_by_layer])
def test_rows_beyond_the_change_are_refused_and_depend_on_no_neighbour_before_it(
    build: Callable[[], PreTrainedModel],
) -> None:
    policy = Policy(scaled_up(build), character_tokenizer())
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(6, VOCABULARY, (2, CHANGE + 4), generator=generator)
    real = torch.arange(CHANGE + 4) < torch.tensor([[6], [CHANGE + 4]])
    with torch.no_grad():
        short = policy.score(tokens[:1, :6], real[:1, :6], real[:1, :6]).logprobs
        with pytest.raises(UserError, match=r"up to 20 tokens, but beyond 16 tokens \w+ changes"):
            policy.score(tokens, real, real)
        within = real[:, :CHANGE]
        beside = policy.score(tokens[:, :CHANGE], within, within).logprobs
        assert_close(beside[0, :6], short[0])
        # What is refused, from the model itself: the short row alone, and beside the long one.
        alone = policy.model(input_ids=tokens[:1, :6], use_cache=False).logits[0]
        beside = policy.model(input_ids=tokens, use_cache=False).logits[0, :6]
    assert (beside - alone).abs().max() > 1e-3


@pytest.mark.parametrize("make_engine", [local_engine, reference_engine])
def test_answers_that_could_go_beyond_the_change_are_refused(make_engine: Callable) -> None:
    policy = Policy(scaled_up(phi3), character_tokenizer())
    engine = make_engine(policy)
    assert engine.capabilities.max_positions == CHANGE
    (answers,) = generate(engine, some_requests((8,)), Sampling(max_new_tokens=8))
    assert len(answers) == 3
    with pytest.raises(
        UserError, match=r"needs 17 positions, but the model has 16 before it changes its rotary"
    ):
        generate(engine, some_requests((9,)), Sampling(max_new_tokens=8))


def test_sharing_is_probed_within_the_change() -> None:
    policy = Policy(scaled_up(phi3), character_tokenizer())
    policy.model.config.sliding_window = CHANGE  # a probe that exceeds it would be too long
    assert policy.sharing_unsupported_reason() is None
