"""vLLM in this process, compared with the trainer: tokens, log-probabilities, routes, weights."""

import warnings
from collections.abc import Iterator
from itertools import chain

import pytest
import torch

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.served_model import weights_of
from steadyrl.engines.vllm import worker
from steadyrl.engines.vllm.engine import VllmEngine
from steadyrl.policies.policy import Policy
from steadyrl.records.completion import FinishReason
from steadyrl.records.weight_source import StateDictWeights
from steadyrl.rollout.routes import check_routing
from tests.driving import generate
from tests.engines.vllm.models import olmoe, qwen3, qwen3_moe
from tests.engines.vllm.serving import (
    FLOAT32,
    perturb,
    requests,
    sequences,
    served,
    trainer_scores,
)

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module", params=[qwen3_moe, olmoe])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Policy, VllmEngine]]:
    policy = request.param()
    with served(policy) as engine:
        yield policy, engine


def test_given_tokens_are_scored_as_by_the_trainer(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    given = [request.prompt_ids for request in requests(policy)]
    for tokens, scores in zip(given, drive(engine.score(given)), strict=True):
        expected = trainer_scores(policy, tokens).logprobs[0]
        assert scores[0] == 0
        assert (scores - expected).abs().max() < FLOAT32


def test_log_probabilities_are_those_at_the_sampling_temperature(
    pair: tuple[Policy, VllmEngine],
) -> None:
    policy, engine = pair
    answers = list(chain(*generate(engine, requests(policy, temperature=0.5))))
    for answer, tokens in zip(answers, sequences(answers), strict=True):
        expected = trainer_scores(policy, tokens, temperature=0.5).logprobs[0]
        assert (answer.logprobs - expected[len(answer.prompt_ids) :]).abs().max() < FLOAT32


def test_prompts_of_more_tokens_than_vllm_reads_in_one_pass_are_answered(
    pair: tuple[Policy, VllmEngine],
) -> None:
    policy, engine = pair
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(policy.vocabulary_size, (40, 60), generator=generator)  # 2,400 tokens
    sampling = Sampling(max_new_tokens=2)
    asked = [
        Request(prompt_ids=prompt, num_completions=1, seed=seed, sampling=sampling)
        for seed, prompt in enumerate(prompts)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a restart
        answers = generate(engine, asked)
    assert [len(each) for each in answers] == [1] * 40


def test_routes_are_the_trainer_s_own_in_float32(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    answers = list(chain(*generate(engine, requests(policy))))
    check_routing(answers)
    for answer, tokens in zip(answers, sequences(answers), strict=True):
        own = trainer_scores(policy, tokens).routing
        assert own is not None
        assert answer.routing is not None
        fed = torch.arange(len(tokens))[None] < len(tokens) - 1
        recorded = answer.routing.at(answer.routing.known).sort(dim=-1).values
        assert torch.equal(recorded, own.at(fed).sort(dim=-1).values)


def test_replayed_routes_are_used(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    ((answer,),) = generate(engine, requests(policy, [40], answers=1))
    assert answer.routing is not None
    (tokens,) = sequences([answer])
    used = trainer_scores(policy, tokens, replay=answer.routing).routing
    assert used is not None
    fed = torch.arange(len(tokens))[None] < len(tokens) - 1
    assert torch.equal(used.at(fed), answer.routing.at(answer.routing.known))


def test_answers_are_functions_of_their_request(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    asked = requests(policy)
    together = generate(engine, asked)
    alone = [generate(engine, [request])[0] for request in reversed(asked)][::-1]
    for one, other in zip(chain(*together), chain(*alone), strict=True):
        assert torch.equal(one.token_ids, other.token_ids)
    assert len({tuple(answer.token_ids.tolist()) for answer in together[0]}) == 3


def test_an_end_token_ends_an_answer_and_belongs_to_it(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    answers = list(chain(*generate(engine, requests(policy, answers=24, temperature=2.0))))
    reasons = {answer.finish_reason for answer in answers}
    assert reasons == {FinishReason.STOP, FinishReason.LENGTH}
    for answer in answers:
        *before, last = [int(token) in policy.end_token_ids for token in answer.token_ids]
        assert not any(before)
        assert last is (answer.finish_reason is FinishReason.STOP)
        assert last or len(before) == 11


def test_greedy_answers_have_no_uncertainty(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    ((answer,),) = generate(engine, requests(policy, [40], answers=1, temperature=0.0))
    assert not answer.logprobs.any()
    (tokens,) = sequences([answer])
    with torch.no_grad():
        likeliest = policy.model(tokens[None]).logits[0].argmax(dim=-1)
    assert torch.equal(answer.token_ids, likeliest[39:-1])


def test_a_sync_replaces_the_weights_and_drops_what_they_computed(
    pair: tuple[Policy, VllmEngine],
) -> None:
    policy, engine = pair
    asked = requests(policy)
    before = generate(engine, asked)
    perturb(policy, 0.05)
    drive(engine.sync(weights_of(policy, version=7)))
    after = list(chain(*generate(engine, asked)))
    assert {answer.policy_version for answer in after} == {engine.policy_version} == {7}
    assert any(
        not torch.equal(one.token_ids, other.token_ids)
        for one, other in zip(chain(*before), after, strict=True)
    )
    for answer, tokens in zip(after, sequences(after), strict=True):
        expected = trainer_scores(policy, tokens).logprobs[0, len(answer.prompt_ids) :]
        assert (answer.logprobs - expected).abs().max() < FLOAT32
    assert engine.differing_tensors(weights_of(policy)) == []


def test_a_sync_that_breaks_off_is_never_sampled_from(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    asked = requests(policy)
    expected = generate(engine, asked)
    state = dict(policy.model.state_dict())
    state.pop("model.norm.weight")
    whole = weights_of(policy, version=8)
    with pytest.raises(ValueError, match=r"1 weights are missing, among them model\.norm\.weight"):
        drive(
            engine.sync(StateDictWeights(state=state, version=8, to_checkpoint=whole.to_checkpoint))
        )
    with pytest.raises(RuntimeError, match="its last sync failed"):
        generate(engine, asked)
    drive(engine.sync(whole))
    for one, other in zip(chain(*expected), chain(*generate(engine, asked)), strict=True):
        assert torch.equal(one.token_ids, other.token_ids)


def test_what_the_model_cannot_hold_is_refused(pair: tuple[Policy, VllmEngine]) -> None:
    policy, engine = pair
    with pytest.raises(UserError, match="needs 262 positions, but the engine has 256"):
        generate(engine, requests(policy, [250]))
    with pytest.raises(UserError, match="has no tokens"):
        generate(engine, requests(policy, [0]))


@pytest.mark.parametrize(("numerics", "limit"), [("float32", FLOAT32), ("bfloat16", 0.2)])
def test_a_head_that_is_tied_to_the_embedding_is_replaced_with_it(
    numerics: str, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, tokens = qwen3(tied=True), torch.arange(5, 45)
    with served(policy, numerics=numerics) as engine:

        def difference() -> float:
            (scores,) = drive(engine.score([tokens]))
            return float((scores - trainer_scores(policy, tokens).logprobs[0]).abs().max())

        assert difference() < limit
        perturb(policy, 0.1)
        drive(engine.sync(weights_of(policy, version=1)))
        assert difference() < limit
        assert engine.differing_tensors(weights_of(policy, version=1)) == []
        monkeypatch.setattr(worker, "_repack_head", lambda _: None)
        perturb(policy, 0.1, seed=2)
        drive(engine.sync(weights_of(policy, version=2)))
        is_stale = difference() > 2 * limit
        assert is_stale or numerics == "bfloat16"  # which processors without AVX-512 do not pack
        stale = ["lm_head.weight"] if is_stale else []
        assert engine.differing_tensors(weights_of(policy, version=2)) == stale


def test_a_model_that_no_kernel_computes_is_refused_at_the_start() -> None:
    if torch.cuda.is_available():
        pytest.skip("heads of width 16 are refused on the CPU only")
    refusal = pytest.raises(UserError, match=r"cannot serve this model: .*head_dim=16")
    with refusal, served(qwen3(head_dim=16)):
        pass


def test_candidates_are_the_trainer_s_most_probable_tokens() -> None:
    policy = qwen3()
    with served(policy, candidates=30) as engine:
        answers = list(chain(*generate(engine, requests(policy, temperature=0.7))))
        cut = list(chain(*generate(engine, requests(policy, top_k=3))))
    assert {answer.candidates for answer in cut} == {None}
    for answer, tokens in zip(answers, sequences(answers), strict=True):
        with torch.no_grad():
            logits = policy.model(input_ids=tokens[None, :-1]).logits[0].float() / 0.7
        logprobs = logits.log_softmax(dim=-1)[len(answer.prompt_ids) - 1 :]
        expected = logprobs.topk(30)
        assert (answer.candidates.logprobs - expected.values).abs().max() < FLOAT32
        own = logprobs.gather(1, answer.candidates.ids.long())
        assert (answer.candidates.logprobs - own).abs().max() < FLOAT32
