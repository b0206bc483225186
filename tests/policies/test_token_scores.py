"""Scores of tokens under a linear head against their definition, and what is kept for them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steadyrl.policies.token_scores import scores_by_head, scores_of_logits
from steadyrl.records.support import Support
from tests.closeness import assert_close

TOKENS, WIDTH, VOCABULARY = 11, 6, 300
BYTES_PER_TOKEN = 4 * VOCABULARY
EVERYTHING_IS_KEPT = TOKENS * BYTES_PER_TOKEN
ONE_IS_TOO_MANY = EVERYTHING_IS_KEPT - 1

Scores = tuple[Tensor, Tensor]


def parts(dtype: torch.dtype, *, bias: bool) -> tuple[Tensor, nn.Linear, Tensor]:
    """States, a head, and three targets in each place, of which two are the same."""
    torch.manual_seed(0)
    features = torch.randn(TOKENS, WIDTH, dtype=torch.float64).to(dtype).requires_grad_()
    head = nn.Linear(WIDTH, VOCABULARY, bias, dtype=torch.float64).to(dtype)
    return features, head, torch.arange(TOKENS)[:, None] * 20 + torch.tensor([0, 3, 0])


SUPPORT = Support.of(
    [None if n % 3 == 0 else torch.arange(20 * n - n, 20 * n + 5 * n) for n in range(TOKENS)]
)
"""Every third token could be any; the others of 6 to 60 ids around the target."""


def definition(
    features: Tensor,
    head: nn.Linear,
    targets: Tensor,
    temperature: float,
    support: Support | None = None,
) -> Scores:
    logits = head(features) / temperature
    for row, own in enumerate([] if support is None else support.split(1)):
        left_out = [v for v in range(VOCABULARY) if len(own.ids) and v not in own.ids.tolist()]
        logits[row, left_out] = -torch.inf
    logprobs = logits.log_softmax(dim=-1)
    entropy = -(logprobs.exp() * logprobs.clamp(min=-1e9)).sum(dim=-1)
    return logprobs.gather(-1, targets), entropy


def with_gradients(
    score: Callable[..., Scores], dtype: torch.dtype, *, bias: bool, **settings: Any
) -> list[Tensor]:
    """Scores, and the gradient of a function of them that treats every token differently."""
    features, head, targets = parts(dtype, bias=bias)
    logprobs, entropy = score(features, head, targets, **settings)
    weights = torch.arange(3 * TOKENS).reshape(TOKENS, 3)
    (logprobs.exp() * weights).sum().backward()
    assert not entropy.requires_grad or score is definition
    leaves = [features, *head.parameters()]
    return [logprobs.detach(), entropy.detach(), *(leaf.grad for leaf in leaves)]  # type: ignore[misc]


def scores_by_logits(features: Tensor, head: nn.Linear, targets: Tensor, **settings: Any) -> Scores:
    return scores_of_logits(head(features), targets, **settings)


@pytest.mark.parametrize("score", [scores_by_head, scores_by_logits])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("memory", [2 * EVERYTHING_IS_KEPT, 0])
@pytest.mark.parametrize("working_memory", [1, 4 * BYTES_PER_TOKEN, 64 << 20])
@pytest.mark.parametrize("support", [None, SUPPORT], ids=["whole", "truncated"])
def test_scores_and_gradients_are_those_of_the_definition(
    score: Callable[..., Scores],
    bias: bool,
    temperature: float,
    memory: int,
    working_memory: int,
    support: Support | None,
) -> None:
    expected = with_gradients(
        definition, torch.float64, bias=bias, temperature=temperature, support=support
    )
    for dtype in (torch.float64, torch.float32):
        found = with_gradients(
            score,
            dtype,
            bias=bias,
            temperature=temperature,
            memory=memory,
            working_memory=working_memory,
            support=support,
        )
        assert all(values.dtype == dtype for values in found)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, VOCABULARY)


def test_bfloat16_states_have_float32_scores_and_bfloat16_gradients() -> None:
    features, head, targets = parts(torch.bfloat16, bias=False)
    logprobs, entropy = scores_by_head(features, head, targets, temperature=1.0)
    assert (logprobs.dtype, entropy.dtype) == (torch.float32, torch.float32)
    exact = head(features).double().log_softmax(dim=-1)
    assert_close(logprobs, exact.gather(-1, targets), VOCABULARY)
    logprobs.sum().backward()
    assert features.grad is not None
    assert features.grad.dtype == torch.bfloat16


def test_many_pieces_cost_bfloat16_gradients_no_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(512, 16, generator=generator).bfloat16()
    targets = torch.randint(64, (512, 1), generator=generator)
    head = nn.Linear(16, 64, bias=True).bfloat16()
    found = []
    for pieces in (512, 1):
        memory = 4 * 64 * 512 // pieces
        logprobs, _ = scores_by_head(
            features, head, targets, temperature=1.0, memory=0, working_memory=memory
        )
        gradients = torch.autograd.grad(logprobs.sum(), [head.weight, head.bias])
        found.append([gradient.double() for gradient in gradients])
    for many, one in zip(*found, strict=True):
        assert (many - one).norm() < 0.004 * one.norm()


@pytest.mark.parametrize("memory", [EVERYTHING_IS_KEPT, ONE_IS_TOO_MANY])
def test_a_second_backward_pass_gives_the_same_gradient_again(memory: int) -> None:
    features, head, targets = parts(torch.float64, bias=False)
    logprobs, _ = scores_by_head(features, head, targets, temperature=1.0, memory=memory)
    once, twice = (
        torch.autograd.grad(logprobs.sum(), [features, head.weight], retain_graph=True)
        for _ in range(2)
    )
    for one, other in zip(once, twice, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("memory", [EVERYTHING_IS_KEPT, ONE_IS_TOO_MANY])
def test_probabilities_are_kept_if_they_fit_and_computed_again_if_not(memory: int) -> None:
    features, head, targets = parts(torch.float32, bias=False)
    logprobs, _ = scores_by_head(features, head, targets, temperature=1.0, memory=memory)
    kept = logprobs.grad_fn.kept  # type: ignore[union-attr]
    assert sum(part.nbytes for part in kept) == (memory if memory == EVERYTHING_IS_KEPT else 0)


@pytest.mark.parametrize("memory", [EVERYTHING_IS_KEPT, ONE_IS_TOO_MANY])
def test_of_logits_that_exist_no_more_is_kept_if_it_does_not_fit(memory: int) -> None:
    logits = torch.randn(TOKENS, VOCABULARY, requires_grad=True)
    kept: dict[int, int] = {}

    def note(saved: Tensor) -> Tensor:
        if saved.data_ptr() != logits.data_ptr():
            kept[saved.data_ptr()] = saved.nbytes
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        scores_of_logits(
            logits, torch.arange(TOKENS)[:, None], temperature=0.5, memory=memory, working_memory=1
        )
    assert (sum(kept.values()) >= EVERYTHING_IS_KEPT) == (memory == EVERYTHING_IS_KEPT)


def test_scoring_without_gradient_keeps_nothing() -> None:
    features, head, targets = parts(torch.float32, bias=False)
    with torch.no_grad():
        logprobs, _ = scores_by_head(features, head, targets, temperature=1.0)
    assert logprobs.grad_fn is None


def test_impossible_tokens_have_probability_zero_and_leave_the_entropy_finite() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    head = nn.Linear(1, 3)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(logits[0])
    state = torch.ones(1, 1, requires_grad=True)
    for token in (0, 2):
        target = torch.tensor([[token]])
        logprob, entropy = scores_by_head(state, head, target, temperature=1.0)
        reference = scores_of_logits(logits, target, temperature=1.0)
        assert logprob.item() == pytest.approx(reference[0].item())
        assert entropy.item() == pytest.approx(reference[1].item()) == pytest.approx(0.6931472)


def test_no_tokens_have_no_scores() -> None:
    features, head, targets = parts(torch.float32, bias=False)
    logprobs, entropy = scores_by_head(features[:0], head, targets[:0], temperature=1.0)
    assert (len(logprobs), len(entropy)) == (0, 0)
    logprobs.sum().backward()
    assert head.weight.grad is not None
    assert not head.weight.grad.any()
