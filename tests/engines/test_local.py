"""The engine with continuous batching, against the one without."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
)

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.local import LocalEngine
from steadyrl.engines.protocol import Engine, Request, Sampling
from steadyrl.engines.reference import ReferenceEngine
from steadyrl.policies.numerics import Numerics, WeightScaling, round_to_fp8, round_to_int8
from steadyrl.policies.policy import Policy
from steadyrl.policies.rounding import Rounding
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.weight_source import StateDictWeights
from tests.closeness import assert_close
from tests.driving import generate
from tests.engines.builders import (
    OTHER_MODELS,
    assert_same_answers,
    engine_model,
    falcon_with_alibi,
    flat,
    gpt_neo,
    local_engine,
    moshi,
    openai_gpt,
    policy_of,
    reference_engine,
    some_requests,
)
from tests.policies.families import FAMILIES, VOCABULARY, scaled_up
from tests.progress import Heard

EIGHT = Sampling(max_new_tokens=8)
MakeEngine = Callable[[Policy], Engine]
BOTH_ENGINES = pytest.mark.parametrize("make_engine", [local_engine, reference_engine])


@pytest.mark.parametrize("model", [*FAMILIES, *OTHER_MODELS])
def test_local_engine_matches_reference_engine(model: str) -> None:
    # Groups of 3 in 4 slots: they are split over admissions.
    policy, requests = policy_of(model), some_requests()
    expected = generate(reference_engine(policy), requests, EIGHT)
    assert_same_answers(generate(local_engine(policy, max_running=4), requests, EIGHT), expected)
    # What makes the comparison worth something: short and long answers.
    assert {answer.finish_reason for answer in flat(expected)} == set(FinishReason)
    assert len({tuple(answer.token_ids.tolist()) for answer in flat(expected)}) > 4


@pytest.mark.parametrize("model", ["qwen3_moe", "mixtral", "olmoe", "gpt_oss"])
def test_a_model_that_is_to_put_out_router_logits_is_sampled_from(model: str) -> None:
    plain, requests = policy_of(model), some_requests(num_completions=1)
    policy = policy_of(model)
    policy.model.config.output_router_logits = True  # a loss on them reads the attention mask
    expected = generate(local_engine(plain), requests, EIGHT)
    assert_same_answers(generate(local_engine(policy), requests, EIGHT), expected)


@pytest.mark.parametrize("make", [local_engine, reference_engine])
def test_sampling_parameters_of_the_checkpoint_are_not_added(
    make: Callable[[Policy], Engine],
) -> None:
    policy, requests = policy_of("qwen3"), some_requests()
    expected = generate(make(policy), requests, EIGHT)
    policy.model.generation_config.update(
        do_sample=True, temperature=0.1, top_p=0.05, top_k=1, min_p=0.5, repetition_penalty=3.0
    )
    assert_same_answers(generate(make(policy), requests, EIGHT), expected)


@pytest.mark.parametrize("max_running", [1, 3, 64])
@pytest.mark.parametrize("model", ["mixtral", "gpt_oss"])
def test_slots_change_no_answer(model: str, max_running: int) -> None:
    policy = policy_of(model)
    requests = some_requests((3, 8, 1, 8))
    expected = generate(local_engine(policy, max_running=5), requests, EIGHT)
    answers = generate(local_engine(policy, max_running=max_running), requests, EIGHT)
    assert_same_answers(answers, expected)


@pytest.mark.parametrize("model", ["qwen3_moe", pytest.param("qwen3", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7, max_new_tokens=8),
        Sampling(top_p=0.8, max_new_tokens=8),
        Sampling(temperature=0, max_new_tokens=8),
        Sampling(max_new_tokens=1),
    ],
    ids=["temperature", "nucleus", "greedy", "one token"],
)
def test_local_engine_matches_reference_engine_however_tokens_are_drawn(
    model: str, sampling: Sampling
) -> None:
    policy, requests = policy_of(model), some_requests()
    expected = generate(reference_engine(policy), requests, sampling)
    assert_same_answers(generate(local_engine(policy, max_running=5), requests, sampling), expected)


def test_answers_that_end_at_once_leave_their_neighbours_alone() -> None:
    # With these seeds answers end at their first token while the prompts were just admitted, so
    # slots move before the first decode step.
    policy = policy_of("mixtral")
    requests = [
        Request(
            prompt_ids=torch.tensor([6 + seed]), num_completions=3, seed=seed, sampling=Sampling()
        )
        for seed in range(6)
    ]
    expected = generate(reference_engine(policy), requests, EIGHT)
    lengths = [len(answer.token_ids) for answer in flat(expected)]
    assert lengths[:-1].count(1) >= 2
    assert_same_answers(generate(local_engine(policy), requests, EIGHT), expected)


def test_answers_come_in_the_order_of_their_requests() -> None:
    policy, requests = policy_of("qwen3"), some_requests()
    engine = local_engine(policy, max_running=2)
    forwards = generate(engine, requests, EIGHT)
    assert_same_answers(generate(engine, requests[::-1], EIGHT)[::-1], forwards)


def test_seed_alone_tells_equal_prompts_apart() -> None:
    engine = local_engine(policy_of("qwen3"))
    prompt = torch.tensor([7, 8, 9])
    requests = [
        Request(prompt_ids=prompt, num_completions=4, seed=seed, sampling=Sampling())
        for seed in (1, 2, 1)
    ]
    first, second, third = generate(engine, requests, EIGHT)
    assert_same_answers([first], [third])
    pairs = zip(first, second, strict=True)
    assert all(one.token_ids.tolist() != other.token_ids.tolist() for one, other in pairs)
    assert len({tuple(answer.token_ids.tolist()) for answer in first}) == 4


@BOTH_ENGINES
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_policy_that_was_sampled(
    make_engine: MakeEngine, temperature: float
) -> None:
    policy = policy_of("qwen3_moe")
    sampling = Sampling(temperature=temperature, max_new_tokens=8)
    for answer in flat(generate(make_engine(policy), some_requests(), sampling)):
        scored = policy_logprobs(policy, answer, temperature)
        assert_close(answer.logprobs, scored)


def test_nucleus_logprobs_are_renormalised_over_the_nucleus() -> None:
    policy = policy_of("qwen3")
    sampling = Sampling(temperature=0.7, top_p=0.8, max_new_tokens=8)
    outside = 0
    for answer in flat(generate(local_engine(policy), some_requests(), sampling)):
        tokens = torch.cat([answer.prompt_ids, answer.token_ids])
        with torch.no_grad():
            logits = policy.model(input_ids=tokens[None]).logits[0].double() / 0.7
        for place, token in enumerate(answer.token_ids.tolist()):
            row = logits[len(answer.prompt_ids) + place - 1].softmax(dim=-1).tolist()
            ranked = sorted(range(len(row)), key=lambda index: -row[index])
            nucleus: list[int] = []
            while sum(row[index] for index in nucleus) < 0.8:
                nucleus.append(ranked[len(nucleus)])
            outside += len(row) - len(nucleus)
            assert token in nucleus
            share = row[token] / sum(row[index] for index in nucleus)
            assert_close(answer.logprobs[place].exp().item(), share)
    assert outside > 0


@BOTH_ENGINES
def test_an_answer_ends_with_its_first_end_token_or_with_its_budget(
    make_engine: MakeEngine,
) -> None:
    policy = policy_of("qwen3")
    answers = flat(generate(make_engine(policy), some_requests(num_completions=5), EIGHT))
    assert {answer.finish_reason for answer in answers} == set(FinishReason)
    for answer in answers:
        *before, last = answer.token_ids.tolist()
        assert not policy.end_token_ids.intersection(before)
        stopped = answer.finish_reason is FinishReason.STOP
        assert stopped == (last in policy.end_token_ids)
        assert stopped or len(answer.token_ids) == 8


def test_every_end_token_of_the_model_ends_an_answer() -> None:
    policy = policy_of("qwen3")
    policy.model.generation_config.eos_token_id = [8, 9, 10, 11]
    requests = some_requests((3,), num_completions=60)
    answers = flat(generate(local_engine(policy), requests, EIGHT))
    stopped = [answer for answer in answers if answer.finish_reason is FinishReason.STOP]
    # 1 is the tokenizer's own.
    assert {int(answer.token_ids[-1]) for answer in stopped} == {1, 8, 9, 10, 11}


def test_every_prompt_is_prefilled_once_and_finished_answers_are_fed_no_more() -> None:
    policy, requests = policy_of("mixtral"), some_requests((4, 7), num_completions=6)
    model = engine_model(policy)
    engine = LocalEngine(model, max_running=64)
    fed = shapes_fed(model)
    answers = flat(generate(engine, requests, EIGHT))
    written = [len(answer.token_ids) for answer in answers]
    assert len(set(written)) > 2
    assert fed[0] == (2, 7)  # two prompts, however many answers
    # At step k the answers of more than k tokens are fed their token k.
    running = [sum(length > step for length in written) for step in range(1, max(written))]
    assert fed[1:] == [(count, 1) for count in running]


@pytest.mark.parametrize("name", ["qwen3", "mixtral", "gemma2"])
def test_prompts_are_prefilled_in_passes_of_like_length_within_their_budget(name: str) -> None:
    # 8 positions: the prompt of 9 tokens is alone, those of 4 and 3 take 8, then two of 2 and one
    # of 1 take 6. Logits after each prompt, and no others.
    policy, requests = policy_of(name), some_requests((2, 9, 1, 3, 2, 4))
    expected = generate(reference_engine(policy), requests, EIGHT)
    model = engine_model(policy)
    engine = LocalEngine(model, max_running=64, prefill_positions=8)
    fed, scored = shapes_fed(model), []
    model.model.lm_head.register_forward_hook(
        lambda _module, _args, logits: scored.append(logits.shape[:-1].numel())
    )
    assert_same_answers(generate(engine, requests, EIGHT), expected)
    assert fed[:3] == [(1, 9), (2, 4), (3, 2)]
    assert scored[:3] == [1, 2, 3]


def test_a_group_split_over_admissions_feeds_each_token_of_an_answer_once() -> None:
    policy, requests = policy_of("mixtral"), some_requests((6,), num_completions=9)
    model = engine_model(policy)
    engine = LocalEngine(model, max_running=2)
    fed = shapes_fed(model)
    answers = flat(generate(engine, requests, EIGHT))
    decoded = [rows for rows, columns in fed if columns == 1]
    assert max(decoded) == 2
    assert sum(decoded) == sum(len(answer.token_ids) - 1 for answer in answers)
    assert {rows for rows, columns in fed if columns == 6} == {1}


@BOTH_ENGINES
def test_nothing_asked_nothing_answered(make_engine: MakeEngine) -> None:
    engine = make_engine(policy_of("qwen3"))
    nobody = Request(prompt_ids=torch.tensor([3]), num_completions=0, seed=1, sampling=Sampling())
    assert generate(engine, [], EIGHT) == []
    assert generate(engine, [nobody, nobody], EIGHT) == [[], []]


@BOTH_ENGINES
def test_empty_prompt_is_refused(make_engine: MakeEngine) -> None:
    nothing = Request(
        prompt_ids=torch.empty(0, dtype=torch.long), num_completions=1, seed=1, sampling=Sampling()
    )
    with pytest.raises(UserError, match=r"A prompt has no tokens. Check the chat template"):
        generate(make_engine(policy_of("qwen3")), [nothing], EIGHT)


@BOTH_ENGINES
def test_prompts_fill_the_positions_of_the_model_and_no_more(make_engine: MakeEngine) -> None:
    engine = make_engine(policy_of("qwen3"))
    assert engine.capabilities.max_positions == 128
    sampling = Sampling(max_new_tokens=8)
    ((answer,),) = generate(engine, some_requests((120,), num_completions=1), sampling)
    assert len(answer.token_ids) <= 8
    with pytest.raises(
        UserError, match=r"121 tokens with max_new_tokens 8 needs 129 .* has 128. Lower max_new"
    ):
        generate(engine, some_requests((121,), num_completions=1), sampling)


@BOTH_ENGINES
def test_new_weights_are_what_is_sampled_from_next(make_engine: MakeEngine) -> None:
    policy, other, requests = policy_of("qwen3_moe"), policy_of("qwen3_moe"), some_requests()
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    engine = make_engine(policy)
    before = generate(engine, requests, EIGHT)
    assert {answer.policy_version for answer in flat(before)} == {0}
    drive(engine.sync(StateDictWeights(state=other.model.state_dict(), version=3)))
    assert engine.policy_version == 3
    after = generate(engine, requests, EIGHT)
    assert {answer.policy_version for answer in flat(after)} == {3}
    fresh = make_engine(other)
    drive(fresh.sync(StateDictWeights(state=other.model.state_dict(), version=3)))
    assert_same_answers(after, generate(fresh, requests, EIGHT))
    pairs = zip(flat(before), flat(after), strict=True)
    assert any(one.token_ids.tolist() != two.token_ids.tolist() for one, two in pairs)


def test_engine_keeps_its_weights_while_the_trainer_learns() -> None:
    policy, requests = policy_of("qwen3"), some_requests()
    engine = local_engine(policy)
    before = generate(engine, requests, EIGHT)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.zero_()
    assert_same_answers(generate(engine, requests, EIGHT), before)


@pytest.mark.parametrize(
    ("numerics", "lowered"),
    [
        (Numerics.FP8, round_to_fp8),
        (Numerics.INT8, round_to_int8),
        (Numerics.BFLOAT16, Tensor.bfloat16),
    ],
)
def test_weights_are_lowered_at_every_load(
    numerics: Numerics, lowered: Callable[[Tensor], Tensor]
) -> None:
    policy = policy_of("qwen3_moe")
    model = engine_model(policy, numerics)
    layer, trained = model.model.model.layers[1], policy.model.model.layers[1]
    with torch.no_grad():
        for version in (1, 2):
            for weight in policy.model.parameters():
                weight.add_(0.01 * torch.randn_like(weight))
            model.load_weights(policy.model.state_dict(), version)
            for name in ("self_attn.v_proj.weight", "mlp.experts.down_proj"):
                assert torch.equal(layer.get_parameter(name), lowered(trained.get_parameter(name)))


@pytest.mark.parametrize(("rounding", "reached"), [("nearest", 0.0), ("stochastic", 1.0)])
def test_small_updates_reach_a_bfloat16_engine_unless_it_rounds_to_nearest(
    rounding: Rounding, reached: float
) -> None:
    policy = policy_of("qwen3_moe")
    with torch.no_grad():
        for weight in policy.model.parameters():  # as those of a published checkpoint
            weight.copy_(weight.bfloat16())
    model = EngineModel(
        policy,
        numerics=Numerics.BFLOAT16,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=False,
        rounding=rounding,
    )
    assert model.reach is None
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.mul_(1 - 2.0**-11)
    model.load_weights(policy.model.state_dict(), 1)
    assert model.reach is not None
    assert model.reach.update_reached == pytest.approx(reached, abs=0.1)


def test_weights_of_another_model_are_refused_by_name_and_by_shape() -> None:
    engine = local_engine(policy_of("qwen3"))
    weights = dict(policy_of("qwen3").model.state_dict())
    extra = {**weights, "model.extra.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"Weight names differ .*model.extra.weight"):
        drive(engine.sync(StateDictWeights(state=extra, version=1)))
    weights["model.norm.weight"] = torch.zeros(31)
    with pytest.raises(ValueError, match=r"model.norm.weight has shape \(31,\), .* \(32,\)"):
        drive(engine.sync(StateDictWeights(state=weights, version=1)))
    assert engine.policy_version == 0


def test_model_without_keys_and_values_is_refused_by_the_local_engine_only() -> None:
    config = MambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        state_size=4,
        eos_token_id=1,
        pad_token_id=0,
    )
    policy = Policy(MambaForCausalLM(config).eval(), character_tokenizer())
    with pytest.raises(
        UserError, match=r"MambaForCausalLM has layers of type .* Use the engine 'reference'"
    ):
        local_engine(policy)
    answers = flat(generate(reference_engine(policy), some_requests((3,)), EIGHT))
    assert len(answers) == 3


def test_model_without_positions_is_refused_by_the_local_engine_only() -> None:
    config = BloomConfig(
        vocab_size=VOCABULARY, hidden_size=16, n_layer=1, n_head=2, eos_token_id=1, pad_token_id=0
    )
    policy = Policy(BloomForCausalLM(config).eval(), character_tokenizer())
    with pytest.raises(UserError, match=r"BloomForCausalLM takes no position_ids.* 'reference'"):
        local_engine(policy)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (gpt_neo, r"GPTNeoForCausalLM has layers of local attention"),
        (falcon_with_alibi, r"FalconForCausalLM has alibi: true"),
        (moshi, r"MoshiForCausalLM computes different results if sequences"),
    ],
)
def test_attention_that_counts_columns_is_refused_by_the_local_engine_only(
    build: Callable[[], PreTrainedModel], reason: str
) -> None:
    policy = Policy(scaled_up(build), character_tokenizer())
    with pytest.raises(UserError, match=f"{reason}.* Use the engine 'reference' for it"):
        local_engine(policy)
    for answer in flat(generate(reference_engine(policy), some_requests((3, 9)), EIGHT)):
        expected = policy_logprobs(policy, answer, 1.0)
        assert_close(answer.logprobs, expected)


@pytest.mark.parametrize("window", [4, 300])
@pytest.mark.parametrize("numerics", [Numerics.BFLOAT16, Numerics.FP8])
def test_no_arithmetic_and_no_long_window_hides_what_slots_change(
    numerics: Numerics, window: int
) -> None:
    model = scaled_up(moshi)
    model.config.sliding_window = window
    policy = Policy(model, character_tokenizer())
    with pytest.raises(UserError, match=r"MoshiForCausalLM computes different results if .*'refe"):
        local_engine(policy, numerics=numerics)


@pytest.mark.parametrize("numerics", [Numerics.FLOAT32, Numerics.BFLOAT16])
def test_a_model_without_a_cache_is_refused_in_any_arithmetic(numerics: Numerics) -> None:
    policy = Policy(scaled_up(openai_gpt), character_tokenizer())
    with pytest.raises(UserError, match=r"OpenAIGPTLMHeadModel fails on a batch .* 'reference'"):
        local_engine(policy, numerics=numerics)


def policy_logprobs(policy: Policy, answer: Completion, temperature: float) -> Tensor:
    """The policy's own log-probabilities of the tokens of `answer`."""
    tokens = torch.cat([answer.prompt_ids, answer.token_ids])[None]
    everything = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad():
        scores = policy.score(tokens, everything, everything, temperature=temperature)
    return scores.logprobs[0, len(answer.prompt_ids) :]


def shapes_fed(model: EngineModel) -> list[tuple[int, ...]]:
    """The shape of every tensor of tokens that will be fed to the model."""
    shapes: list[tuple[int, ...]] = []
    model.model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, args: shapes.append(tuple(args[0].shape))
    )
    return shapes


@pytest.mark.parametrize("numerics", [Numerics.FLOAT32, Numerics.FP8])
def test_what_was_written_can_be_used_under_autograd(numerics: Numerics) -> None:
    policy = policy_of("qwen3_moe")
    model = EngineModel(
        policy, numerics=numerics, weight_scaling=WeightScaling.CHANNEL, record_routing=True
    )
    answers = flat(generate(LocalEngine(model, max_running=4), some_requests(), EIGHT))
    for answer in answers:
        assert answer.routing is not None
        parts = (
            answer.token_ids,
            answer.logprobs,
            answer.routing.at(answer.routing.known),
            answer.routing.known,
        )
        assert not any(part.is_inference() for part in parts)
        factor = torch.ones((), requires_grad=True)
        (factor * answer.logprobs).sum().backward()  # keeps the log-probabilities for the gradient
        assert factor.grad is not None


@pytest.mark.parametrize("kind", [LocalEngine, ReferenceEngine])
def test_an_engine_says_how_many_answers_and_tokens_are_written(kind: type) -> None:
    heard, requests = Heard(), some_requests()
    slots = {"max_running": 4} if kind is LocalEngine else {}
    engine = kind(engine_model(policy_of("qwen3"), Numerics.FLOAT32), progress=heard, **slots)
    answers = flat(generate(engine, requests, EIGHT))
    written = [tokens for tokens, _ in heard.tokens]

    assert heard.of("answers")[-1] == (9, 9)
    assert heard.of("answers") == sorted(heard.of("answers"))
    assert written == sorted(written)
    assert heard.tokens[-1] == (sum(len(answer.token_ids) for answer in answers), 9 * 8)
    assert_same_answers(
        [answers], [flat(generate(reference_engine(policy_of("qwen3")), requests, EIGHT))]
    )
