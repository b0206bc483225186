"""The peers that need nothing but torch and Transformers."""

import torch
from benchmarks.performance.groups.growth import Size, small_policy
from benchmarks.performance.limits import (
    active_parameters,
    rollout_bytes,
    rollout_operations,
    update_operations,
)
from benchmarks.performance.peers.bare_loop import BareLoop
from benchmarks.performance.peers.transformers_generate import (
    answer_lengths,
    generate,
    generation_config,
)
from transformers import LlamaConfig, LlamaForCausalLM

from steadyrl.records.token_batch import TokenBatch
from tests.closeness import assert_close

END = 1
CPU = torch.device("cpu")


def test_an_answer_is_counted_up_to_its_first_end_token() -> None:
    written = torch.tensor([[5, 6, END, 0], [END, 7, END, 0], [5, 6, 7, 8]])

    assert answer_lengths(written, END) == [3, 1, 4]


def test_generate_writes_every_answer_and_says_its_length() -> None:
    model = small_policy(Size(vocabulary=64), CPU, hazard=0.5).model
    settings = generation_config(END, 0, 8, 3)

    lengths = generate(model, [torch.arange(2, 6), torch.arange(2, 9)], settings)

    assert len(lengths) == 6
    assert all(1 <= length <= 8 for length in lengths)
    assert sum(lengths) < 6 * 8  # a half of them end at each token


def test_the_bare_loop_takes_the_gradient_of_the_weighted_logprobs() -> None:
    model = small_policy(Size(vocabulary=64), CPU).model
    tokens = torch.tensor([[2, 3, 4, 5], [6, 7, 8, 0]])
    mask = torch.tensor([[False, False, True, True], [False, True, True, False]])
    advantages = torch.tensor([[0, 0, 1, 1], [0, -2, -2, 0]])
    batch = TokenBatch(
        tokens=tokens,
        attention_mask=tokens != 0,
        loss_mask=mask,
        group_ids=torch.tensor([0, 0]),
        response_ids=torch.tensor([0, 1]),
        advantages=advantages.float(),
    )
    # The definition: the logits before each token, their log-softmax at it, times the advantage.
    logprobs = model(input_ids=tokens, use_cache=False).logits[:, :-1].log_softmax(-1)
    chosen = logprobs.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    (-(chosen * advantages[:, 1:]).sum()).backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}

    counted = BareLoop(model, learning_rate=1e-6).update([batch])

    assert counted == 4
    for name, weight in model.named_parameters():
        assert_close(weight.grad, expected[name])


def test_operations_are_counted_from_the_weights_that_each_token_meets() -> None:
    model = small_policy(Size(vocabulary=64, experts=8), CPU).model
    # Each of 3 layers, width 64: queries 64 x 64, keys and values 32 x 64 each, output 64 x 64,
    # router 8 x 64, norms 2 x 64 + 2 x 16; 2 of 8 experts of 3 x 64 x 64. A last norm of 64.
    layer = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 8 * 64 + 2 * 64 + 2 * 16 + 2 * 3 * 64 * 64
    trunk, head = 3 * layer + 64, 64 * 64

    assert active_parameters(model) == (trunk, head)
    # Two rows of 10 tokens, 8 of them responses: 6 operations a weight, and for attention 3 layers
    # x 64 channels x 2 products x 2 operations x half of 10^2 pairs, once forward, twice backward.
    attention = 2 * 3 * 64 * 2 * 2 * 50 * 3
    lengths, none = torch.tensor([10, 10]), torch.tensor([0, 0])
    assert update_operations(model, lengths, none, 8) == 6 * (20 * trunk + 8 * head) + attention
    # The second row begins with four tokens of the first: 4 tokens and half of 4^2 pairs less.
    repeated = 2 * 3 * 64 * 2 * 2 * 8 * 3 / 2
    counted = update_operations(model, lengths, torch.tensor([0, 4]), 8)
    assert counted == 6 * (16 * trunk + 8 * head) + attention - repeated


def test_bytes_are_counted_from_weights_and_cache() -> None:
    model = small_policy(Size(vocabulary=64), CPU).model
    weights = 4 * (model.num_parameters() - 64 * 64)
    # Keys and values, 4 bytes, 3 layers of 2 heads of 16.
    cached = 2 * 4 * 3 * 2 * 16

    # Two answers at a time: the longest has 6 tokens, and 6 steps are more than 10 / 2.
    both = rollout_bytes(model, 10, [4, 6], running=2)
    assert both == 6 * weights + cached * (4 * 12 + 6 * 13)
    # One at a time: 10 steps.
    assert rollout_bytes(model, 10, [4, 6], running=1) - both == 4 * weights


def tied_model() -> LlamaForCausalLM:
    """Two dense layers whose embedding is the output head."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            intermediate_size=32,
            tie_word_embeddings=True,
        )
    )


def test_an_embedding_that_is_the_head_too_is_counted_once() -> None:
    model = tied_model()
    # Queries and output 16 x 16 each, keys and values 8 x 16 each, three of 32 x 16, two norms.
    layer = 2 * 16 * 16 + 2 * 8 * 16 + 3 * 32 * 16 + 2 * 16
    trunk, head = 2 * layer + 16, 64 * 16

    assert active_parameters(model) == (trunk, head)
    # A step reads them all, the head among them; keys and values of 2 layers, 1 head of 8.
    cached = 2 * 4 * 2 * 8
    assert rollout_bytes(model, 10, [4], running=1) == 4 * 4 * (trunk + head) + cached * 4 * 12


def test_operations_of_a_rollout_count_a_prompt_once_for_its_group() -> None:
    model = tied_model()
    trunk, head = active_parameters(model)
    # A prompt of 10 tokens, answers of 4 and 6. Pairs: 10 x 10 / 2 within the prompt, then 4 x 12
    # and 6 x 13. Each takes 4 operations for each of 2 layers x 16 channels.
    pairs = 50 + 48 + 78

    counted = rollout_operations(model, [10], [[4, 6]])

    assert counted == 2 * (20 * trunk + 10 * head) + 4 * 32 * pairs
