"""Drawing tokens from logits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from steadyrl.base.errors import NonFiniteError
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.sampler import sample, sample_each, uniforms
from tests.closeness import assert_close, tolerance

LAST_BELOW_ONE = 1 - 2**-53
PROBABILITIES = [0.4, 0.0, 0.3, 0.2, 0.0, 0.1, 0.0]
LOGITS = torch.tensor(PROBABILITIES).log()


def draw(logits: torch.Tensor, numbers: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    return sample(logits.expand(len(numbers), -1), numbers, sampling).tokens


def frequencies(logits: torch.Tensor, sampling: Sampling) -> list[float]:
    """How often each token is drawn by 10,000 numbers spread evenly over [0, 1)."""
    numbers = (torch.arange(10_000).double() + 0.5) / 10_000
    counts = draw(logits, numbers, sampling).bincount(minlength=len(logits))
    return (counts / 10_000).tolist()


def test_tokens_are_drawn_as_often_as_they_are_probable() -> None:
    assert frequencies(LOGITS, Sampling()) == pytest.approx(PROBABILITIES, abs=2e-4)


def test_temperature_raises_probabilities_to_its_inverse_power() -> None:
    # At 0.5 probabilities are squared: 0.16, 0.09, 0.04, 0.01, of 0.30 together.
    expected = [16 / 30, 0, 9 / 30, 4 / 30, 0, 1 / 30, 0]
    assert frequencies(LOGITS, Sampling(temperature=0.5)) == pytest.approx(expected, abs=2e-4)


def test_nucleus_is_renormalised_and_the_rest_is_never_drawn() -> None:
    # 0.4 + 0.3 does not hold 0.75; with 0.2 it is 0.9, and the rest is left out.
    expected = [4 / 9, 0, 3 / 9, 2 / 9, 0, 0, 0]
    assert frequencies(LOGITS, Sampling(top_p=0.75)) == pytest.approx(expected, abs=2e-4)


def test_the_most_probable_tokens_are_renormalised_and_the_rest_is_never_drawn() -> None:
    expected = [4 / 9, 0, 3 / 9, 2 / 9, 0, 0, 0]
    assert frequencies(LOGITS, Sampling(top_k=3)) == pytest.approx(expected, abs=2e-4)
    assert frequencies(LOGITS, Sampling(top_k=1000)) == frequencies(LOGITS, Sampling())


def test_of_equally_probable_tokens_no_more_than_top_k_are_drawn() -> None:
    level = torch.zeros(5)
    assert frequencies(level, Sampling(top_k=2)) == pytest.approx([0.5, 0.5, 0, 0, 0], abs=2e-4)


def test_the_nucleus_is_of_the_most_probable_tokens() -> None:
    # Of all tokens the first two hold 0.7, which is not 0.75; of the first three they hold 7/9.
    sampling = Sampling(top_k=3, top_p=0.75)
    assert frequencies(LOGITS, sampling) == pytest.approx([4 / 7, 0, 3 / 7, 0, 0, 0, 0], abs=2e-4)


def test_temperature_comes_before_the_nucleus() -> None:
    # Squared and renormalised 16/30 > 0.5, so one token holds the nucleus; at temperature 1 two do.
    assert frequencies(LOGITS, Sampling(temperature=0.5, top_p=0.5))[0] == 1
    assert frequencies(LOGITS, Sampling(top_p=0.5))[0] == pytest.approx(4 / 7, abs=2e-4)


@pytest.mark.parametrize("number", [0.0, LAST_BELOW_ONE])
@pytest.mark.parametrize("first", [0, 1])
def test_tokens_of_probability_zero_are_never_drawn(number: float, first: int) -> None:
    # The extreme random numbers, with zeros at either end of the vocabulary.
    logits = LOGITS.roll(first)
    uniform = torch.tensor([number], dtype=torch.float64)
    for sampling in (Sampling(), Sampling(top_p=0.75), Sampling(temperature=0.01)):
        (token,) = draw(logits, uniform, sampling).tolist()
        assert logits[token] > -torch.inf


def test_underflowing_probabilities_at_the_end_are_never_drawn() -> None:
    logits = torch.tensor([3.0, 3.0, -2000.0])
    number = torch.tensor([LAST_BELOW_ONE], dtype=torch.float64)
    (token,) = draw(logits, number, Sampling()).tolist()
    assert token == 1


def test_greedy_takes_the_most_probable_token_with_certainty() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    numbers = torch.tensor([0.999, 0.999], dtype=torch.float64)
    drawn = sample(logits, numbers, Sampling(temperature=0))
    assert drawn.tokens.tolist() == [1, 0]
    assert drawn.logprobs.tolist() == [0.0, 0.0]


@settings(deadline=None, max_examples=60)
@given(
    logits=st.lists(st.floats(-4, 4), min_size=2, max_size=12),
    number=st.floats(0, LAST_BELOW_ONE),
    temperature=st.floats(0.3, 2),
    top_p=st.floats(0.05, 1),
)
def test_logprob_is_that_of_a_smallest_set_that_holds_top_p(
    logits: list[float], number: float, temperature: float, top_p: float
) -> None:
    sampling = Sampling(temperature=temperature, top_p=top_p)
    rows = torch.tensor([logits])
    uniform = torch.tensor([number], dtype=torch.float64)
    drawn = sample(rows, uniform, sampling)
    (token,), (logprob,) = drawn.tokens.tolist(), drawn.logprobs.tolist()
    weights = [math.exp(float(value) / temperature) for value in rows[0]]
    shares = sorted((weight / sum(weights) for weight in weights), reverse=True)
    share = weights[token] / sum(weights)
    # Logits and probabilities, at most 1, are float32.
    rounding = tolerance([1.0, *(value / temperature for value in logits)], terms=16)
    sizes = []
    for size in range(1, len(shares) + 1):
        held, without_last = sum(shares[:size]), sum(shares[: size - 1])
        if held >= top_p - rounding and without_last <= top_p + rounding:
            sizes.append(size)  # several sizes only if a sum is that close to top_p
    assert any(
        share >= shares[size - 1] - rounding
        and math.exp(logprob) == pytest.approx(share / sum(shares[:size]), abs=rounding)
        for size in sizes
    )


def test_equal_logits_and_numbers_give_equal_tokens_in_any_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 50, generator=generator)
    numbers = torch.rand(9, generator=generator, dtype=torch.float64)
    together = sample(logits, numbers, Sampling(top_p=0.9))
    assert together.support is not None
    for row in range(9):
        alone = sample(logits[row : row + 1], numbers[row : row + 1], Sampling(top_p=0.9))
        assert alone.tokens.item() == together.tokens[row].item()
        assert alone.logprobs.item() == together.logprobs[row].item()
        assert alone.support is not None
        assert torch.equal(alone.support[0], together.support[row])


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(top_k=2), [0, 2]),
        (Sampling(top_p=0.65), [0, 2]),
        (Sampling(top_p=0.75), [0, 2, 3]),
        (Sampling(top_p=0.75, top_k=1), [0]),
        (Sampling(top_k=99), [0, 2, 3, 5]),
    ],
)
def test_truncated_sampling_states_what_it_could_draw(sampling: Sampling, kept: list[int]) -> None:
    drawn = sample(LOGITS[None], torch.tensor([0.3], dtype=torch.float64), sampling)
    assert drawn.support is not None
    assert drawn.support[0] is not None
    assert drawn.support[0].tolist() == kept
    assert sample(LOGITS[None], torch.tensor([0.3]).double(), Sampling()).support is None


def test_each_row_has_the_support_of_its_own_sampling() -> None:
    numbers = torch.full((3,), 0.3).double()
    samplings = [(Sampling(), [0, 2]), (Sampling(top_k=1), [1])]
    drawn = sample_each(LOGITS.expand(3, -1), numbers, samplings)
    assert drawn.support is not None
    assert [None if ids is None else ids.tolist() for ids in drawn.support] == [None, [0], None]


def test_random_numbers_are_uniform() -> None:
    request = Request(
        prompt_ids=torch.tensor([1]),
        num_completions=100,
        seed=3,
        sampling=Sampling(max_new_tokens=1000),
    )
    numbers = uniforms(request).flatten()
    assert numbers.dtype == torch.float64
    # 100,000 draws over 20 cells: chi-square has mean 19 and standard deviation sqrt(38) = 6.2.
    counts = (numbers * 20).long().bincount(minlength=20)
    assert ((counts - 5000).square() / 5000).sum().item() < 19 + 5 * 6.2


def test_random_numbers_belong_to_seed_answer_and_place() -> None:
    def numbers(seed: int, count: int) -> list[list[float]]:
        request = Request(
            prompt_ids=torch.tensor([1]),
            num_completions=count,
            seed=seed,
            sampling=Sampling(max_new_tokens=4),
        )
        return uniforms(request).tolist()

    assert numbers(5, 2) == numbers(5, 3)[:2]
    assert len({number for row in numbers(5, 3) for number in row}) == 12
    assert numbers(5, 2) != numbers(6, 2)


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": 0}, {"max_new_tokens": 0}],
)
def test_impossible_sampling_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)


@pytest.mark.parametrize("vocabulary", [1, 127, 128, 129, 1000])
def test_every_size_of_vocabulary_inverts_the_cumulative_distribution(vocabulary: int) -> None:
    # Each token's interval of random numbers is hit in its middle.
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    ends = logits.double().softmax(dim=0).cumsum(dim=0)
    middles = ends - logits.double().softmax(dim=0) / 2
    drawn = sample(logits.expand(vocabulary, -1), middles, Sampling())
    assert drawn.tokens.tolist() == list(range(vocabulary))
    assert_close(drawn.logprobs, logits.double().log_softmax(dim=0), vocabulary)


def test_tokens_of_probability_zero_are_never_drawn_from_a_large_vocabulary() -> None:
    # All mass is in two blocks, with empty ones before, between and after them.
    logits = torch.full((1000,), -torch.inf)
    logits[300], logits[700] = 0.0, 0.0
    numbers = torch.tensor([0.0, 0.25, 0.5 - 2**-53, 0.5, 0.75, LAST_BELOW_ONE])
    drawn = draw(logits, numbers.double(), Sampling()).tolist()
    assert set(drawn) == {300, 700}
    assert drawn[:2] == [300, 300]
    assert drawn[-3:] == [700, 700, 700]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_that_are_not_finite_draw_no_token(broken: float, temperature: float) -> None:
    logits = LOGITS.repeat(3, 1)
    logits[1, 2] = broken
    with pytest.raises(NonFiniteError, match=r"The logits of 1 of 3 rows are not finite"):
        sample(logits, torch.full((3,), 0.5).double(), Sampling(temperature=temperature))


@pytest.mark.parametrize("changes", [{"temperature": 1e-6}, {"top_p": 1e-320}])
def test_extreme_parameters_sample_the_most_probable_token(changes: dict[str, float]) -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]])

    sampled = sample(logits, torch.tensor([0.9, 0.1]), Sampling(**changes))

    assert sampled.tokens.tolist() == [1, 0]
    assert sampled.logprobs.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("temperature", [1e-320, 9e-7])
def test_a_temperature_that_float32_cannot_divide_by_is_refused(temperature: float) -> None:
    with pytest.raises(ValidationError, match="must be 0, for the most probable token"):
        Sampling(temperature=temperature)
