"""Faults are named from dumps that have them; sound dumps are left alone."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from dump_faults import (
    _base_2,
    _divided,
    _next_token,
    _overflow,
    _saturated,
    _shifted_routes,
    _sum,
)
from dump_world import Sample, Samples
from tests.analysis.dump_samples import OTHER_POLICY, VOCABULARY, drawn, pairing_of

from steadyrl.analysis.dumps import Comparison, DumpCause, Pairing, Verdict, compare
from steadyrl.analysis.dumps.counted import Counted
from steadyrl.analysis.dumps.distance import common_shift
from steadyrl.analysis.dumps.log_odds import LogOdds, line_of_log_odds, log_odds
from steadyrl.analysis.dumps.record import UNKNOWN
from steadyrl.base.errors import UserError

LEARNED = 0.3 * np.random.default_rng(4).standard_normal(VOCABULARY)
"""What an update adds to the logit of each token."""


def compared(samples: Samples, **columns: bool) -> Comparison:
    return compare(pairing_of(samples, **columns))


def cause_of(samples: Samples, **columns: bool) -> DumpCause | None:
    finding = compared(samples, **columns).finding
    return None if finding is None else finding.cause


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("noise", [0.01, 0.25])
def test_a_sound_engine_is_sound_whatever_its_precision(noise: float, seed: int) -> None:
    assert compared(drawn(seed, noise=noise)).verdict == Verdict.SOUND


def test_equal_columns_are_sound_and_said_to_be_equal() -> None:
    comparison = compared(drawn(noise=0.0))
    assert comparison.finding is None
    assert any("equal to the bit" in note for note in comparison.notes)


@pytest.mark.parametrize("temperature", [0.95, 1.3])
@pytest.mark.parametrize("entropy", [True, False])
def test_a_temperature_is_named_with_and_without_entropy(temperature: float, entropy: bool) -> None:
    comparison = compared(drawn(1, noise=0.01, temperature=temperature), entropy=entropy)
    assert comparison.finding is not None
    assert comparison.finding.cause == DumpCause.TEMPERATURE
    said = re.search(r"trainer's at ([\d.]+) times", comparison.finding.reason)
    assert said is not None
    assert float(said[1]) == pytest.approx(temperature, rel=0.03)


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_a_temperature_is_named_where_no_text_goes_on_in_two_ways(temperature: float) -> None:
    samples = drawn(1, temperature=temperature, prompts=64, group=1)
    line = line_of_log_odds(log_odds(Counted(pairing_of(samples))))
    assert line.ratio == pytest.approx(temperature, rel=0.1)
    assert line.one_way > 0.99
    assert cause_of(samples, entropy=False) == DumpCause.TEMPERATURE


def test_log_odds_move_on_one_line_under_a_temperature_alone() -> None:
    for settings in ({"noise": 0.25}, {"learned": tuple(LEARNED)}, {"trainer": OTHER_POLICY}):
        samples = drawn(1, prompts=64, group=1, **settings)
        line = line_of_log_odds(log_odds(Counted(pairing_of(samples))))
        assert line.share * (line.one_way > 0.9) < 0.2


def test_log_odds_of_two_tokens_shrink_by_the_temperature() -> None:
    """Of two tokens, log-odds are logits, and the other one has no entropy: pi = sigmoid(q x)."""
    engine = np.array([-3.0, -1.0, 0.5, 2.0, 4.0])
    found = LogOdds(
        moves=(0.8 - 1) * engine, means=(1 + 0.8) / 2 * engine, depth=np.arange(5)
    )  # fmt: skip
    line = line_of_log_odds(found)
    assert (line.ratio, line.share, line.one_way) == pytest.approx((0.8, 1.0, 1.0))


@pytest.mark.parametrize("entropy", [True, False])
def test_top_p_that_is_not_reported_is_named_with_and_without_entropy(entropy: bool) -> None:
    assert (
        cause_of(drawn(2, top_p=0.7, raw=True, prompts=16), entropy=entropy) == DumpCause.SAMPLING
    )


def test_top_p_that_the_engine_alone_applies_is_named() -> None:
    samples = drawn(2, top_p=0.7)
    assert any((sample.rollout_logprobs == 0).any() for sample in samples), "one token is left"
    assert cause_of(samples) == DumpCause.FILTER


def test_greedy_sampling_beside_a_trainer_at_temperature_1_is_certain_of_all() -> None:
    assert cause_of(drawn(2, top_p=1e-9)) == DumpCause.UNRECORDED


@pytest.mark.parametrize("side", ["rollout_logprobs", "trainer_logprobs"])
def test_a_column_of_zeros_was_not_recorded(side: str) -> None:
    empty = [replace(sample, **{side: 0 * getattr(sample, side)}) for sample in drawn(2)]

    assert cause_of(empty) == DumpCause.UNRECORDED


def test_a_number_in_place_of_minus_infinity_is_not_finite() -> None:
    marked = drawn(2)
    values = marked[3].rollout_logprobs.copy()
    values[0] = -9999.0
    marked[3] = replace(marked[3], rollout_logprobs=values)
    finding = compare(pairing_of(marked)).finding

    assert finding is not None
    assert finding.cause == DumpCause.NON_FINITE
    assert "1 of the engine (-9999)" in finding.reason


def test_values_above_0_of_both_sides_are_no_log_probabilities() -> None:
    negated = [
        replace(s, rollout_logprobs=-s.rollout_logprobs, trainer_logprobs=-s.trainer_logprobs)
        for s in drawn(2)
    ]
    finding = compare(pairing_of(negated)).finding

    assert finding is not None
    assert finding.cause == DumpCause.UNIT
    assert "The engine and the trainer's are above 0" in finding.reason
    assert "opposite sign" in finding.reason


def test_weights_that_learned_of_some_tokens_are_newer() -> None:
    assert cause_of(drawn(4, noise=0.05, learned=tuple(LEARNED))) == DumpCause.STALE


def test_a_shift_beside_a_quantized_engine_is_said_and_not_blamed() -> None:
    samples = pairing_of(drawn(4, noise=0.05, learned=tuple(LEARNED)))
    found = compare(samples, quantized_engine=True)

    assert found.verdict == Verdict.SOUND
    assert "so do stale weights: compare the weight versions" in found.notes[-1]
    assert compare(pairing_of(drawn(4)), quantized_engine=True).notes == ()


@pytest.mark.parametrize(("learned", "nats"), [(LEARNED, LEARNED.std()), (0 * LEARNED, 0.0)])
def test_the_shift_is_what_the_logits_moved_by(learned: np.ndarray, nats: float) -> None:
    samples = drawn(4, noise=0.05, prompts=32, learned=tuple(learned))
    assert common_shift(Counted(pairing_of(samples))).nats == pytest.approx(
        nats, rel=0.25, abs=0.02
    )


def test_with_the_tokens_of_one_side_other_prompts_are_not_ruled_out() -> None:
    both = pairing_of(drawn(3, trainer=OTHER_POLICY))
    for pairing, said in (
        (both, "another checkpoint"),
        (_one_sided(both), "different prompts, or"),
    ):
        finding = compare(pairing).finding
        assert finding is not None
        assert finding.cause == DumpCause.OTHER_POLICY
        assert said in finding.reason


def test_responses_that_differ_at_their_start_alone_were_not_rounded() -> None:
    """The effect of other prompts fades along a response."""
    generator = np.random.default_rng(3)
    samples = []
    for sample in drawn(4, prompts=24):
        moves = np.zeros(len(sample.response))
        moves[:2] = generator.choice([-0.6, 0.6], size=len(moves[:2]))
        samples.append(replace(sample, trainer_logprobs=sample.trainer_logprobs + moves))
    finding = compare(_one_sided(pairing_of(samples, entropy=False))).finding
    assert finding is not None
    assert finding.cause == DumpCause.OTHER_POLICY
    assert "the first 2 tokens of responses differ by" in finding.reason
    assert "different prompts, or the weights differ" in finding.reason


def _one_sided(pairing: Pairing) -> Pairing:
    return replace(pairing, has_both_prompts=False)


def test_another_model_is_another_policy() -> None:
    assert cause_of(drawn(3, trainer=OTHER_POLICY)) == DumpCause.OTHER_POLICY


def written(change: Callable[[Sample, int], Sample], seed: int = 4) -> Samples:
    return [change(sample, number) for number, sample in enumerate(drawn(seed, noise=0.05))]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (_overflow, DumpCause.NON_FINITE),
        (_saturated, DumpCause.SATURATION),
        (_sum, DumpCause.SEQUENCE_VALUES),
        (_divided, DumpCause.DIVIDED),
        (_base_2, DumpCause.UNIT),
        (_next_token, DumpCause.SHIFTED),
        (_shifted_routes, DumpCause.ROUTES),
    ],
)
def test_a_slip_of_writing_is_named(
    change: Callable[[Sample, int], Sample], cause: DumpCause
) -> None:
    assert cause_of(written(change)) == cause


@pytest.mark.parametrize("lag", [-1, 1])
def test_shifted_routes_are_seen_without_those_of_the_trainer(lag: int) -> None:
    def shifted(sample: Sample, _: int) -> Sample:
        rolled = np.roll(sample.rollout_experts, lag, axis=0)
        return replace(sample, rollout_experts=rolled, trainer_experts=None)

    assert cause_of(written(shifted)) == DumpCause.ROUTES
    assert cause_of(written(lambda s, _: replace(s, trainer_experts=None))) == DumpCause.NUMERICS


def test_negative_log_likelihoods_and_probabilities_are_other_units() -> None:
    opposite = written(lambda s, _: replace(s, trainer_logprobs=-s.trainer_logprobs))
    chances = written(lambda s, _: replace(s, rollout_logprobs=np.exp(s.rollout_logprobs)))
    assert cause_of(opposite) == DumpCause.UNIT
    assert cause_of(chances) == DumpCause.UNIT


def test_rows_of_another_order_are_permuted() -> None:
    samples = drawn(5, noise=0.05)

    def of(sample: Sample, number: int) -> Sample:
        other = samples[(number + 7) % len(samples)].rollout_logprobs[: len(sample.response)]
        filled = np.pad(other, (0, len(sample.response) - len(other)))
        return replace(sample, rollout_logprobs=filled)

    assert cause_of([of(s, n) for n, s in enumerate(samples)]) == DumpCause.PERMUTED


@pytest.mark.parametrize(("place", "edge"), [(0, "first"), (-1, "last")])
def test_a_mask_that_leaves_out_a_sampled_token_is_off_by_one(place: int, edge: str) -> None:
    def slipped(sample: Sample, _: int) -> Sample:
        mask = sample.mask.copy()
        mask[place] = False
        return replace(sample, mask=mask)

    finding = compared(written(slipped)).finding
    assert finding is not None
    assert finding.cause == DumpCause.MASK
    assert f"the {edge} token" in finding.reason


def test_counted_padding_is_named() -> None:
    def padded(sample: Sample, _: int) -> Sample:
        return replace(
            sample,
            response=(*sample.response, 0, 0, 0),
            mask=np.ones(len(sample.response) + 3, dtype=bool),
            rollout_logprobs=np.pad(sample.rollout_logprobs, (0, 3)),
            trainer_logprobs=np.append(sample.trainer_logprobs, [-4.0, -5.0, -3.0]),
            entropy=np.pad(sample.entropy, (0, 3)),
            rollout_experts=None,
            trainer_experts=None,
        )

    assert cause_of(written(padded)) == DumpCause.PADDING


def test_one_bos_more_and_another_template_are_told_apart() -> None:
    doubled = written(lambda s, _: replace(s, prompt=(s.prompt[0], *s.prompt)))
    other = written(lambda s, _: replace(s, prompt=(*s.prompt[:2], 9, *s.prompt[2:])))
    both = written(
        lambda s, _: replace(
            s,
            prompt=(0, *s.prompt),
            trainer_prompt=(0, *s.prompt),
            rollout_experts=None,
            trainer_experts=None,
        )
    )
    assert cause_of(doubled) == DumpCause.BOS
    assert cause_of(other) == DumpCause.TEMPLATE
    assert cause_of(both) == DumpCause.BOS


def test_a_few_tokens_are_too_few_to_tell() -> None:
    comparison = compared(drawn(0, temperature=0.7, prompts=2, group=2, length=3))
    assert comparison.verdict == Verdict.TOO_FEW
    assert comparison.finding is None


def test_an_infinite_value_needs_no_more_than_one_token() -> None:
    samples = drawn(0, prompts=1, group=1, length=3)
    values = np.append(samples[0].rollout_logprobs[:-1], -np.inf)
    assert cause_of([replace(samples[0], rollout_logprobs=values)]) == DumpCause.NON_FINITE


def test_flipped_experts_are_the_source_where_they_carry_the_mismatch() -> None:
    generator = np.random.default_rng(0)

    def flipped(sample: Sample, _: int) -> Sample:
        chosen = generator.random(len(sample.response)) < 0.05
        experts = sample.trainer_experts.copy()
        before = len(sample.prompt) - 1 + np.flatnonzero(chosen)
        experts[before] = (experts[before] + 1) % 8
        push = chosen * generator.normal(0, 0.3, len(chosen)) * (-sample.trainer_logprobs)
        return replace(
            sample, trainer_experts=experts, rollout_logprobs=sample.trainer_logprobs + push
        )

    comparison = compared([flipped(s, n) for n, s in enumerate(drawn(0, noise=0.0))])
    assert comparison.verdict == Verdict.SOUND
    assert comparison.finding is not None
    assert comparison.finding.cause == DumpCause.ROUTING
    share = comparison.shares[0]
    assert share.part == "tokens with other experts in some layer"
    assert share.mismatch == pytest.approx(1.0)
    assert 0.02 < share.tokens < 0.1
    assert all(token.flipped_layers == 2 for token in comparison.largest)


def test_unknown_routes_are_not_called_flipped() -> None:
    samples = [
        replace(s, trainer_experts=np.full_like(s.trainer_experts, UNKNOWN)) for s in drawn(0)
    ]
    comparison = compared(samples)
    assert comparison.metrics["routing_disagreement"] == 0


def test_the_largest_tokens_come_first_with_their_places() -> None:
    samples = drawn(0, noise=0.0)
    row = next(number for number, sample in enumerate(samples) if len(sample.response) > 4)
    values = samples[row].rollout_logprobs.copy()
    values[2] -= 4.0
    samples[row] = replace(samples[row], rollout_logprobs=values)
    worst = compared(samples).largest[0]
    assert (worst.row, worst.position) == (row, 2)
    assert worst.token == samples[row].response[2]
    assert worst.trainer_logprob - worst.rollout_logprob == pytest.approx(4.0)


def test_float16_storage_is_noted_and_its_share_shown() -> None:
    def stored(sample: Sample, _: int) -> Sample:
        return replace(
            sample,
            rollout_logprobs=sample.rollout_logprobs.astype(np.float16).astype(float),
            trainer_logprobs=sample.trainer_logprobs.astype(np.float16).astype(float),
        )

    comparison = compared([stored(s, 0) for s in drawn(8, noise=1e-4)])
    assert comparison.verdict == Verdict.SOUND
    assert any("stored in float16" in note for note in comparison.notes)
    shares = {share.part: share.mismatch for share in comparison.shares}
    assert shares["rounding of the dump to float16"] > 0.3


def test_a_mask_of_zeros_is_refused() -> None:
    samples = [replace(s, mask=np.zeros(len(s.response), dtype=bool)) for s in drawn(0)]
    with pytest.raises(UserError, match="counts no token"):
        compared(samples)
