"""Most probable tokens that an engine records: they are those of the model, whatever shares it."""

from dataclasses import replace
from itertools import chain

import pytest
import torch

from steadyrl.engines.driver import drive
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Sampling
from steadyrl.engines.reference import ReferenceEngine
from steadyrl.engines.sampler import sample
from steadyrl.policies.numerics import Numerics, WeightScaling
from steadyrl.policies.policy import Policy
from steadyrl.records.completion import Completion
from steadyrl.records.weight_source import StateDictWeights
from tests.closeness import assert_close
from tests.driving import generate
from tests.engines.builders import flat, policy_of, some_requests
from tests.policies.families import VOCABULARY

EIGHT = Sampling(max_new_tokens=8)


def recording(policy: Policy, candidates: int) -> EngineModel:
    return EngineModel(
        policy,
        numerics=Numerics.FLOAT32,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=policy.hook is not None,
        candidates=candidates,
    )


def distribution(policy: Policy, answer: Completion, temperature: float) -> torch.Tensor:
    """Log-probabilities of the whole vocabulary in place of each token of an answer."""
    tokens = torch.cat([answer.prompt_ids, answer.token_ids])[None, :-1]
    with torch.no_grad():
        logits = policy.model(input_ids=tokens).logits[0, len(answer.prompt_ids) - 1 :]
    return (logits / temperature).log_softmax(dim=-1)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("max_running", [64, 2])
def test_they_are_the_most_probable_tokens_of_the_model(
    temperature: float, max_running: int
) -> None:
    policy, requests = policy_of("qwen3_moe"), some_requests((2, 9, 1, 3))
    sampling = Sampling(max_new_tokens=8, temperature=temperature)
    engine = LocalEngine(recording(policy, 5), max_running=max_running)
    answers = flat(generate(engine, requests, sampling))
    assert len({len(answer.token_ids) for answer in answers}) > 1
    for answer in answers:
        expected = distribution(policy, answer, temperature).topk(5)
        assert torch.equal(answer.candidates.ids.long(), expected.indices)
        assert_close(answer.candidates.logprobs, expected.values, VOCABULARY)


def test_the_whole_vocabulary_is_a_distribution_that_holds_the_sampled_token() -> None:
    policy = policy_of("qwen3")
    engine = LocalEngine(recording(policy, 10**6), max_running=64)
    for answer in flat(generate(engine, some_requests(), EIGHT)):
        likely = answer.candidates
        assert likely.ids.shape == (len(answer.token_ids), policy.vocabulary_size)
        assert_close(likely.logprobs.exp().sum(dim=1), torch.ones(len(likely)), VOCABULARY)
        sampled = likely.logprobs[likely.ids == answer.token_ids[:, None]]
        assert torch.equal(sampled, answer.logprobs)


def test_both_engines_record_the_same() -> None:
    policy, requests = policy_of("qwen3_moe"), some_requests()
    answers = generate(LocalEngine(recording(policy, 4), max_running=64), requests, EIGHT)
    reference = ReferenceEngine(recording(policy, 4))
    for ours, theirs in zip(flat(answers), flat(generate(reference, requests, EIGHT)), strict=True):
        assert torch.equal(ours.candidates.ids, theirs.candidates.ids)
        assert_close(ours.candidates.logprobs, theirs.candidates.logprobs)


def test_nothing_is_recorded_that_nobody_reads() -> None:
    policy = policy_of("qwen3")
    engine = LocalEngine(recording(policy, 0), max_running=64)
    assert {a.candidates for a in flat(generate(engine, some_requests(), EIGHT))} == {None}


@pytest.mark.parametrize("cut", [Sampling(top_p=0.5), Sampling(top_k=2), Sampling(temperature=0)])
def test_cut_sampling_has_none_and_spoils_none(cut: Sampling) -> None:
    policy = policy_of("qwen3")
    whole, short = (
        sampling.model_copy(update={"max_new_tokens": 8}) for sampling in (Sampling(), cut)
    )
    requests = some_requests((2, 9, 1, 3))
    asked = [
        replace(request, sampling=short if place % 2 else whole)
        for place, request in enumerate(requests)
    ]
    engine = LocalEngine(recording(policy, 3), max_running=64)
    mixed = generate(engine, asked)
    alone = generate(LocalEngine(recording(policy, 3), max_running=64), requests, whole)
    for place, answers in enumerate(mixed):
        for answer, other in zip(answers, alone[place], strict=True):
            assert (answer.candidates is None) == bool(place % 2)
            if answer.candidates is not None:
                assert torch.equal(answer.candidates.ids, other.candidates.ids)
                assert_close(answer.candidates.logprobs, other.candidates.logprobs)


def test_each_token_has_those_of_the_weights_that_sampled_it() -> None:
    policy, other = policy_of("qwen3"), policy_of("qwen3")
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    engine = LocalEngine(recording(policy, 5), max_running=64)
    numbers = [
        engine.submit(replace(request, sampling=Sampling(max_new_tokens=12)))
        for request in some_requests()
    ]
    found = {}
    for _ in range(3):
        found |= engine.step()
    drive(engine.sync(StateDictWeights(state=other.model.state_dict(), version=5)))
    while len(found) < len(numbers):
        found |= engine.step()
    versions = set()
    for answer in chain.from_iterable(found.values()):
        for version, by in ((0, policy), (5, other)):
            own = answer.token_versions == version
            expected = distribution(by, answer, 1.0).topk(5).values[own]
            torch.testing.assert_close(
                answer.candidates.logprobs[own], expected, rtol=1e-4, atol=1e-4
            )
            versions |= {version} if own.any() else set()
    assert versions == {0, 5}


def test_taking_them_changes_no_draw() -> None:
    logits = torch.randn(6, 300, generator=torch.Generator().manual_seed(0))
    uniform = torch.rand(6, generator=torch.Generator().manual_seed(1)).double()
    with_them, without = (sample(logits, uniform, Sampling(), count) for count in (7, 0))
    assert torch.equal(with_them.tokens, without.tokens)
    assert torch.equal(with_them.logprobs, without.logprobs)
    assert without.candidates is None
