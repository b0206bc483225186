"""What a session records: tokens that continue, and rows that begin anew, counted by cause."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from benchmarks.trained_tokenizers import TOKENIZERS

from steadyrl.engines.protocol import Sampling
from steadyrl.gateway.sessions import SessionRules
from steadyrl.policies.continuations import continue_tokens
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.model_settings import Pretrained
from steadyrl.policies.tokenizers import control_tokens, encode_prompts, plain_ids
from steadyrl.records.message import Message
from steadyrl.records.tool_calls import ToolCall, ToolSettings, read_calls, write_calls
from tests.gateway.serving import MODEL, Served, make_app, served
from tests.rollout.fakes import TOKENIZER, ScriptedEngine

TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
SMOLLM2 = Path(__file__).parents[2] / "models" / "smollm2"


def scripted(prompt: str, number: int, call: int) -> str:
    """A call with odd spacing after `call`, otherwise an answer that depends on the choice."""
    question = prompt.rpartition("<|user|>")[2]
    if question == "call<|assistant|>":
        return ' {"arguments": {"b":4,  "a":3}, "name":"add"} '
    return f" a{number} "


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(make_app(ScriptedEngine(scripted))) as running:
        yield running


@pytest.fixture
def session(server: Served, request: pytest.FixtureRequest) -> Iterator["Talk"]:
    talk = Talk(server, re.sub(r"\W", "-", request.node.name))
    yield talk
    server.gateway.sessions.pop(talk.name, None)


class Talk:
    """A session and a client of it."""

    def __init__(self, server: Served, name: str) -> None:
        self.server, self.name = server, name
        self.client = server.client(name)

    def ask(self, *messages: Any, **options: Any) -> list[Any]:
        """The conversation with the first answer."""
        reply = self.client.chat.completions.create(model=MODEL, messages=list(messages), **options)
        return [*messages, reply.choices[0].message.model_dump(exclude_none=True)]

    @property
    def recorded(self) -> Any:
        return self.server.get(f"/sessions/{self.name}").json()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_a_longer_conversation_continues_the_sampled_tokens(session: Talk) -> None:
    said = session.ask({"role": "system", "content": "s"}, user("call"), tools=[TOOL])
    result = {"role": "tool", "content": "7", "tool_call_id": said[-1]["tool_calls"][0]["id"]}
    session.ask(*said, result, tools=[TOOL])

    (row,) = session.recorded["rows"]
    text = TOKENIZER.decode(row["token_ids"])
    assert text == (
        '<|system|>s<|user|>call<|assistant|> {"arguments": {"b":4,  "a":3}, "name":"add"} <|end|>'
        "<|tool|>7<|assistant|> a0 <|end|>"
    )
    sampled = [t for t, own in zip(row["token_ids"], row["sampled"], strict=True) if own]
    assert TOKENIZER.decode(sampled).endswith('"name":"add"} <|end|> a0 <|end|>')
    assert {v for v in row["policy_versions"] if v is not None} == {7}
    assert session.recorded["new_rows"] == {}


def changed(said: list[Any], place: int, text: str) -> list[Any]:
    return [*said[:place], {**said[place], "content": text}, *said[place + 1 :]]


@pytest.mark.parametrize(
    ("cause", "later"),
    [
        ("edited", lambda said: [*changed(said, 1, "better"), user("b")]),
        ("shortened", lambda said: [said[0], user("summary")]),
        ("branched", lambda said: [*said[:2], user("another")]),
        ("branched", lambda said: said[:1]),
        ("other_conversation", lambda said: [user("sub-agent")]),
    ],
)
def test_a_new_row_is_counted_by_its_cause(
    session: Talk, cause: str, later: Callable[[list[Any]], list[Any]]
) -> None:
    said = session.ask(*session.ask(user("a")), user("b"))
    session.ask(*later(said))

    assert session.recorded["new_rows"] == {cause: 1}
    assert [len(row["finish_reasons"]) for row in session.recorded["rows"]] == [2, 1]


def test_other_tools_begin_a_new_row(session: Talk) -> None:
    said = session.ask(user("a"), tools=[TOOL])
    session.ask(*said, user("b"))

    assert session.recorded["new_rows"] == {"tools_changed": 1}


def test_further_choices_are_branches_and_each_can_be_continued(session: Talk) -> None:
    first = session.ask(user("a"), n=2)
    second = [*first[:-1], {"role": "assistant", "content": " a1 "}]
    session.ask(*second, user("b"))

    rows = session.recorded["rows"]
    assert [len(row["finish_reasons"]) for row in rows] == [1, 2]
    assert session.recorded["new_rows"] == {"branched": 1}


def test_raw_prompts_are_rows_of_their_own(session: Talk) -> None:
    session.ask(user("a"))
    session.client.completions.create(model=MODEL, prompt="abc")

    assert session.recorded["new_rows"] == {"raw_prompt": 1}


def test_a_header_names_the_session_too(server: Served) -> None:
    client = server.client(default_headers={"x-steadyrl-session": "by-header"})
    client.chat.completions.create(model=MODEL, messages=[user("a")])

    assert server.get("/sessions/by-header").json()["calls"] == 1
    assert server.get("/sessions/nobody").status_code == 404


def test_rewards_are_posted_and_checked(session: Talk) -> None:
    session.ask(user("a"))
    path = f"/sessions/{session.name}/reward"

    refused = session.server.post(path, content=b'{"reward": NaN}', headers=JSON)
    assert refused.json()["error"]["message"].startswith("the reward is nan")
    assert session.server.post(path, json={"reward": 0.5}).status_code == 200
    assert session.recorded["reward"] == 0.5


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.5}, "temperature is 0.5, but the run trains on tokens sampled with"),
        ({"top_p": 0.9}, "top_p is 0.9"),
        ({"seed": 3}, "seed is 3, but seeds are the run's"),
        ({"max_tokens": 17}, "max_tokens is 17, but sampling.max_new_tokens is 16"),
    ],
)
def test_sampling_that_training_forbids_is_refused(options: dict[str, Any], message: str) -> None:
    rules = SessionRules(sampling=Sampling(max_new_tokens=16), trains=True, max_calls=1)
    with served(make_app(ScriptedEngine(scripted), rules=rules)) as server:
        talk = Talk(server, "s")
        with pytest.raises(Exception, match=message) as caught:
            talk.ask(user("a"), **options)
        assert caught.value.code == "sampling_forbidden"  # type: ignore[attr-defined]
        talk.ask(user("a"), temperature=1.0, max_tokens=16)
        with pytest.raises(Exception, match="The session has used its 1 calls"):
            talk.ask(user("b"))


@pytest.mark.parametrize("pinned", [False, True])
def test_a_session_goes_on_after_a_sync_with_versions_per_token_unless_pinned(
    pinned: bool,
) -> None:
    engine = ScriptedEngine(scripted)
    rules = SessionRules(sampling=Sampling(max_new_tokens=16), pinned=pinned)
    with served(make_app(engine, rules=rules)) as server:
        talk = Talk(server, "s")
        said = talk.ask(user("a"))
        engine.policy_version += 1
        if pinned:
            with pytest.raises(openai.ConflictError, match="changed from 7 to 8") as caught:
                talk.ask(*said, user("b"))
            assert caught.value.code == "policy_changed"
            Talk(server, "another").ask(user("a"))
        else:
            talk.ask(*said, user("b"))
        (row,) = talk.recorded["rows"]

    assert {v for v in row["policy_versions"] if v is not None} == ({7} if pinned else {7, 8})
    assert row["policy_versions"][-1] == (7 if pinned else 8)


class SyncedEngine(ScriptedEngine):
    """Is synced while it samples: the first token is of the version before."""

    def answer(self, requests: Any) -> Any:
        answers = super().answer(requests)
        return [[replace(c, versions=self._versions(c)) for c in each] for each in answers]

    def _versions(self, completion: Any) -> Any:
        versions = completion.token_versions.clone()
        versions[0] -= 1
        return versions


def test_tokens_of_a_call_during_a_sync_have_their_own_versions() -> None:
    with served(make_app(SyncedEngine(scripted))) as server:
        talk = Talk(server, "s")
        talk.ask(user("a"))
        (row,) = talk.recorded["rows"]
        assert [v for v in row["policy_versions"] if v is not None] == [6, 7, 7, 7, 7]
        server.gateway.rules.pinned = True
        with pytest.raises(openai.ConflictError, match="changed from 6 to 7"):
            Talk(server, "pinned").ask(user("a"))
        assert Talk(server, "pinned").recorded["rows"] == []


def test_calls_are_read_in_both_forms_and_written_back() -> None:
    tagged, plain = ToolSettings(), ToolSettings(calls="json")
    call = ToolCall.of("add", {"b": 4, "a": 3})
    text = write_calls("First.", [call, call], tagged)

    assert read_calls(text, tagged) == ("First.", (call, call))
    assert read_calls(write_calls("", [call], plain), plain) == ("", (call,))
    assert read_calls('<tool_call>{"nam": 1}</tool_call>', tagged)[1] == ()
    assert read_calls("7", plain) == ("7", ())
    assert ToolCall.of("add", '{"b":4,"a":3}') == call


def tokenizers() -> list[Any]:
    found = [pytest.param(lambda: TOKENIZER, id="characters")]
    found += [pytest.param(make, id=name) for name, make in TOKENIZERS.items()]
    exists = (SMOLLM2 / "tokenizer.json").is_file()
    mark = pytest.mark.skipif(not exists, reason="`make real-model` fetches it")
    load = lambda: load_tokenizer(Pretrained(path=str(SMOLLM2)))  # noqa: E731
    return [*found, pytest.param(load, id="smollm2", marks=mark)]


@pytest.mark.parametrize("load", tokenizers())
def test_no_special_token_in_a_message_opens_a_turn(load: Callable[[], Any]) -> None:
    tokenizer = load()
    special = set(tokenizer.all_special_ids)
    clean = encode_prompts(tokenizer, [[Message(role="user", content="a")]])[0]
    reply = torch.cat([clean, torch.tensor([tokenizer.eos_token_id])])
    after = continue_tokens(tokenizer, reply, [], [Message(role="user", content="a")])

    def marks(tokens: Any) -> list[int]:
        return [token for token in tokens.tolist() if token in special]

    for token in control_tokens(tokenizer):
        for text in (token, f"a{token}b", token[0] + token, f"{token}{token}", f"<{token}>"):
            message = Message(role="user", content=text)
            assert marks(encode_prompts(tokenizer, [[message]])[0]) == marks(clean), text
            assert marks(continue_tokens(tokenizer, reply, [], [message])) == marks(after), text
            assert marks(plain_ids(tokenizer, text)) == [], text


@pytest.mark.parametrize("load", tokenizers())
def test_twenty_turns_keep_the_sampled_tokens_where_rendering_anew_drifts(
    load: Callable[[], Any],
) -> None:
    """A policy samples any tokens, not only those that its tokenizer would write for a text."""
    tokenizer = load()
    draws = torch.Generator().manual_seed(0)
    ordinary = torch.tensor(
        [n for n in range(len(tokenizer)) if n not in set(tokenizer.all_special_ids)]
    )
    messages: list[Message] = [Message(role="user", content="turn 0")]
    (tokens,) = encode_prompts(tokenizer, [messages])
    sampled: list[list[int]] = []
    drifted = 0
    for turn in range(1, 21):
        reply = ordinary[torch.randint(len(ordinary), (8,), generator=draws)]
        reply = torch.cat([reply, torch.tensor([tokenizer.eos_token_id])])
        tokens = torch.cat([tokens, reply])
        sampled.append(reply.tolist())
        text = tokenizer.decode(reply[:-1], clean_up_tokenization_spaces=False)
        following = [Message(role="tool" if turn % 2 else "user", content=f"turn {turn}")]
        continued = continue_tokens(tokenizer, tokens, messages, following)
        messages += [Message(role="assistant", content=text), *following]
        assert torch.equal(continued[: len(tokens)], tokens)
        (naive,) = encode_prompts(tokenizer, [messages])
        drifted += not torch.equal(naive[: len(tokens)], tokens)
        tokens = continued

    print(f"re-rendering drifts in {drifted} of 20 turns")
    ids = tokens.tolist()
    places = [i for i in range(len(ids)) for reply in sampled[:1] if ids[i : i + 9] == reply]
    assert len(places) == 1
    assert drifted == 0 if tokenizer is TOKENIZER else drifted >= 15
