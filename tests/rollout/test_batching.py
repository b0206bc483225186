"""Trajectories as rows, each number on its own token."""

from dataclasses import replace

import pytest
import torch

from steadyrl.algorithms.supervised import demonstration_batch
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.arithmetic_chain import partial_results
from steadyrl.environments.protocol import Split
from steadyrl.objectives import sets_differ
from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import SmallMoE
from steadyrl.policies.policy import Policy
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.records.completion import Completion
from steadyrl.records.message import Message
from steadyrl.records.routing import Routing, fed_tokens_checksum
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.rollout.batching import token_batch
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.routes import drop_repeated_routes
from tests.closeness import assert_close
from tests.driving import generate
from tests.engines.builders import local_engine
from tests.rollout.fakes import TOKENIZER, Quiz, ScriptedEngine, ids_of, some_tasks

PAD = 0


def played(
    engine: ScriptedEngine, *, turns: int, group_size: int = 1, tasks: int = 1
) -> list[Group]:
    environment = Quiz(turns=turns)
    return drive(
        play_groups(
            environment,
            engine,
            TOKENIZER,
            some_tasks(environment, tasks),
            group_size=group_size,
            sampling=Sampling(max_new_tokens=8),
            seed=1,
        )
    )


def batch_of(groups: list[Group], *advantages: list[float]) -> TokenBatch:
    credits = [torch.tensor(values) for values in advantages]
    return token_batch(groups, credits, pad_token_id=PAD)


def text_of(batch: TokenBatch, row: int) -> str:
    return TOKENIZER.decode(batch.tokens[row][batch.attention_mask[row]])


def test_turns_that_continue_are_one_row_with_loss_on_what_was_sampled() -> None:
    engine = ScriptedEngine(lambda _prompt, _number, call: ["ab", "c", "dd"][call])
    batch = batch_of(played(engine, turns=3), [0.5])
    # Positions:  0 user, 1 q, 2 0, 3 assistant, 4 a, 5 b, 6 end,
    #             7 user, 8-11 next, 12 assistant, 13 c, 14 end,
    #             15 user, 16-19 next, 20 assistant, 21 d, 22 d, 23 end
    assert text_of(batch, 0) == (
        "<|user|>q0<|assistant|>ab<|end|><|user|>next<|assistant|>c<|end|>"
        "<|user|>next<|assistant|>dd<|end|>"
    )
    assert batch.tokens.shape == (1, 24)
    sampled = [4, 5, 6, 13, 14, 21, 22, 23]
    assert batch.loss_mask[0].nonzero().flatten().tolist() == sampled
    # The engine wrote -(100 call + position).
    expected = torch.zeros(24)
    expected[sampled] = torch.tensor([-4.0, -5, -6, -113, -114, -221, -222, -223])
    assert batch.rollout_logprobs is not None
    assert torch.equal(batch.rollout_logprobs[0], expected)
    assert torch.equal(batch.advantages[0], 0.5 * batch.loss_mask[0])
    assert batch.attention_mask.all()
    assert batch.old_logprobs is None


def test_tokens_keep_the_routes_they_were_written_under() -> None:
    engine = ScriptedEngine(lambda _prompt, _number, call: ["ab", "c", "dd"][call])
    routing = batch_of(played(engine, turns=3), [0.5]).rollout_routing
    assert routing is not None
    # Call 0 was fed positions 0 to 5, call 1 to 13, call 2 to 22; experts are 10 call + position.
    expected = [*range(6), *(10 + p for p in range(6, 14)), *(20 + p for p in range(14, 23))]
    for layer in range(2):
        assert routing.at(routing.known)[:, layer, 0].tolist() == expected
    assert routing.known[0].tolist() == [True] * 23 + [False]


def test_routing_is_known_and_checked_on_every_token_but_the_last_of_each_row() -> None:
    engine = ScriptedEngine(lambda _prompt, number, _call: ["a", "bcd"][number])
    batch = batch_of(played(engine, turns=1, group_size=2), [1.0, -1.0])
    routing = batch.rollout_routing
    assert routing is not None
    assert batch.lengths.tolist() == [6, 8]
    assert routing.known.sum(dim=1).tolist() == [5, 7]
    assert routing.known[0, :5].all()
    assert torch.equal(routing.fed_tokens, fed_tokens_checksum(batch.tokens, routing.known))


def test_rows_are_padded_on_the_right_and_grouped_by_prompt() -> None:
    engine = ScriptedEngine(lambda prompt, number, _call: "x" * (1 + number + 3 * ("q1" in prompt)))
    groups = played(engine, turns=1, group_size=2, tasks=2)
    batch = batch_of(groups, [1.0, 2.0], [3.0, 4.0])
    assert [text_of(batch, row) for row in range(4)] == [
        "<|user|>q0<|assistant|>x<|end|>",
        "<|user|>q0<|assistant|>xx<|end|>",
        "<|user|>q1<|assistant|>xxxx<|end|>",
        "<|user|>q1<|assistant|>xxxxx<|end|>",
    ]
    assert batch.lengths.tolist() == [6, 7, 9, 10]
    assert (batch.tokens[~batch.attention_mask] == PAD).all()
    assert not batch.loss_mask[~batch.attention_mask].any()
    assert batch.group_ids.tolist() == [0, 0, 1, 1]
    assert batch.response_ids.tolist() == [0, 1, 2, 3]
    assert batch.advantages.amax(dim=1).tolist() == [1, 2, 3, 4]
    assert not batch.advantages[~batch.loss_mask].any()


def test_a_prompt_that_does_not_continue_begins_a_new_row_under_the_same_advantage() -> None:
    # The second turn was asked another question, so its tokens do not follow from the first.
    engine = ScriptedEngine(lambda _prompt, _number, call: ["one", "two"][call])
    prompts = [ids_of("<|user|>p<|assistant|>"), ids_of("<|user|>q<|assistant|>")]
    turns = [
        generate(
            engine,
            [Request(prompt_ids=prompt, num_completions=1, seed=0, sampling=Sampling())],
            Sampling(),
        )[0][0]
        for prompt in prompts
    ]
    batch = batch_of([group_of(*turns), group_of(turns[0])], [-2.0], [1.0])
    assert batch.group_ids.tolist() == [0, 0, 1]
    assert batch.response_ids.tolist() == [0, 0, 1]
    assert [text_of(batch, row) for row in range(2)] == [
        "<|user|>p<|assistant|>one<|end|>",
        "<|user|>q<|assistant|>two<|end|>",
    ]
    assert batch.advantages.sum(dim=1).tolist() == [-8, -8, 4]
    assert batch.rollout_logprobs is not None
    assert batch.rollout_logprobs[1].tolist() == [0, 0, 0, -103, -104, -105, -106]
    assert batch.rollout_routing is not None
    experts = batch.rollout_routing.padded().experts
    assert experts[1, :6, 0, 0].tolist() == [10, 11, 12, 13, 14, 15]


@pytest.mark.parametrize("change", ["a token", "a shorter prompt"])
def test_a_single_changed_token_begins_a_new_row(change: str) -> None:
    engine = ScriptedEngine(lambda *_: "ab")
    (first,), (second,) = (
        generate(
            engine,
            [Request(prompt_ids=prompt, num_completions=1, seed=0, sampling=Sampling())],
            Sampling(),
        )[0]
        for prompt in (ids_of("<|user|>p<|assistant|>"), ids_of("<|user|>p<|assistant|>ab<|end|>"))
    )
    assert len(batch_of([group_of(first, second)], [1.0])) == 1
    prompt = second.prompt_ids.clone()
    if change == "a token":
        prompt[4] += 1
    else:
        prompt = prompt[:-1]
    (other,) = generate(
        engine,
        [Request(prompt_ids=prompt, num_completions=1, seed=0, sampling=Sampling())],
        Sampling(),
    )[0]
    assert len(batch_of([group_of(first, other)], [1.0])) == 2


def test_engines_that_record_no_routing_give_batches_without() -> None:
    engine = ScriptedEngine(lambda *_: "ab", records_routing=False)
    assert batch_of(played(engine, turns=2), [1.0]).rollout_routing is None


def test_routing_of_other_tokens_than_those_returned_is_refused() -> None:
    (group,) = played(ScriptedEngine(lambda *_: "ab"), turns=1)
    (completion,) = group.trajectories[0].completions
    other = replace(completion, token_ids=completion.token_ids + 1)
    with pytest.raises(RuntimeError, match="recorded routing for other tokens than it returned"):
        batch_of([group_of(other)], [1.0])


def test_a_turn_keeps_the_routes_of_its_own_tokens_only() -> None:
    engine = ScriptedEngine(lambda _prompt, _number, call: ["ab", "c", "dd"][call])
    (group,) = played(engine, turns=3)
    turns = group.trajectories[0].completions
    # Call 0 was fed 6 tokens, call 1 another 8 and call 2 another 9.
    routings = [turn.routing for turn in turns]
    assert [routing.nbytes for routing in routings if routing is not None] == [24, 32, 36]
    row = batch_of([group], [0.5]).rollout_routing
    assert row is not None
    assert row.nbytes == 24 + 32 + 36
    pieces = [r.experts[0][0].data_ptr() for r in routings if r is not None]
    assert [piece.data_ptr() for piece in row.experts[0]] == pieces  # the same memory


def test_a_turn_that_begins_a_new_row_keeps_all_its_routes() -> None:
    engine = ScriptedEngine(lambda *_: "ab")
    prompts = [ids_of("<|user|>p<|assistant|>"), ids_of("<|user|>qq<|assistant|>")]
    first, second = (
        generate(
            engine,
            [Request(prompt_ids=prompt, num_completions=1, seed=0, sampling=Sampling())],
            Sampling(),
        )[0][0]
        for prompt in prompts
    )
    assert drop_repeated_routes(second, first) is second
    assert first.routing is not None
    bare = replace(first, routing=None)
    assert drop_repeated_routes(second, bare) is second


def test_routes_are_left_out_after_they_were_proven_to_be_of_these_tokens() -> None:
    engine = ScriptedEngine(lambda *_: "ab")
    first, second = (
        generate(
            engine,
            [Request(prompt_ids=prompt, num_completions=1, seed=0, sampling=Sampling())],
            Sampling(),
        )[0][0]
        for prompt in (ids_of("<|user|>p<|assistant|>"), ids_of("<|user|>p<|assistant|>ab<|end|>"))
    )
    wrong = replace(second, token_ids=second.token_ids + 1)
    with pytest.raises(RuntimeError, match="recorded routing for other tokens than it returned"):
        drop_repeated_routes(wrong, first)


@pytest.mark.parametrize("fault", ["a row is missing", "a row is unknown"])
def test_incomplete_routing_is_refused(fault: str) -> None:
    (group,) = played(ScriptedEngine(lambda *_: "ab"), turns=1)
    (completion,) = group.trajectories[0].completions
    routing = completion.routing
    assert routing is not None
    known = routing.known.clone()
    known[0, -1] = False
    tokens = torch.cat([completion.prompt_ids, completion.token_ids])[None, :-1]
    holed = Routing.of(routing.padded().experts, known, tokens)
    if fault == "a row is missing":
        holed = holed.rows(torch.tensor([0]), 5)
    with pytest.raises(RuntimeError, match=r"routing of shape \(1, [56]\) for 6 fed tokens"):
        batch_of([group_of(replace(completion, routing=holed))], [1.0])


@pytest.fixture(scope="module")
def pupil() -> Policy:
    """A small Mixture-of-Experts model that has learned to answer one step with one digit."""
    settings = SmallMoE(layers=2, width=32, heads=2, kv_heads=1, expert_width=16)
    tokenizer = load_tokenizer(settings)
    policy = Policy(load_model(settings, tokenizer=tokenizer, seed=1), tokenizer)
    tasks = [two_steps().task(Split.TRAIN, number) for number in range(32)]
    prompts = encode_prompts(tokenizer, [task.prompt for task in tasks])
    answers = [str(partial_results(task.payload)[0]) for task in tasks]
    turns = [[pair] for pair in zip(prompts, answers, strict=True)]
    batch = demonstration_batch(turns, tokenizer, tokenizer.eos_token_id)
    optimizer = torch.optim.Adam(policy.model.parameters(), lr=1e-2)
    for _ in range(40):
        scores = policy.score(batch.tokens, batch.attention_mask, batch.loss_mask)
        optimizer.zero_grad()
        (-scores.logprobs.sum() / batch.loss_mask.sum()).backward()
        optimizer.step()
    return policy


def two_steps() -> Arithmetic:
    return Arithmetic(ArithmeticSettings(operands=3, max_operand=4, max_result=9, turns="multi"))


@pytest.mark.parametrize("max_running", [5, 64])
def test_two_turns_with_the_local_engine_are_reproduced_by_the_trainer(
    pupil: Policy, max_running: int
) -> None:
    environment = two_steps()
    tasks = [environment.task(Split.TRAIN, number) for number in range(4)]
    groups = drive(
        play_groups(
            environment,
            local_engine(pupil, max_running=max_running),
            pupil.tokenizer,
            tasks,
            group_size=4,
            sampling=Sampling(max_new_tokens=4),
            seed=3,
        )
    )
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    turns = [len(trajectory.completions) for trajectory in trajectories]
    assert set(turns) == {1, 2}
    batch = token_batch(groups, [torch.ones(4)] * 4, pad_token_id=PAD)
    assert len(batch) == len(trajectories)  # both turns of an episode are one row
    assert batch.rollout_logprobs is not None
    routing = batch.rollout_routing
    assert routing is not None
    blocks = (batch.loss_mask[:, 1:] & ~batch.loss_mask[:, :-1]).sum(dim=1)
    assert blocks.tolist() == turns
    with torch.no_grad():
        live = pupil.score(batch.tokens, batch.attention_mask, batch.loss_mask, record_routing=True)
        replayed = pupil.score(batch.tokens, batch.attention_mask, batch.loss_mask, replay=routing)
    for scores in (live, replayed):
        assert_close(scores.logprobs, batch.rollout_logprobs)
    assert live.routing is not None
    assert not sets_differ(live.routing.at(routing.known), routing.at(routing.known)).any()


def group_of(*completions: Completion) -> Group:
    """A group of one episode."""
    trajectory = Trajectory(
        task_id="t",
        messages=(Message(role="user", content="p"),),
        completions=completions,
        reward=0.0,
        terminated=True,
        truncated=False,
    )
    return Group(task_id="t", trajectories=(trajectory,))
