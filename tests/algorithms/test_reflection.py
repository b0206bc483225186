"""Who reflects, and what comes of a reflection that fails."""

import threading
from typing import Any

import pytest
import torch
from tests.algorithms.experiential import COMPACT
from tests.engines.server import Answer, Call, chat_server, says
from tests.rollout.fakes import TOKENIZER, ScriptedEngine

from steadyrl.algorithms.reflection import (
    FrozenReflection,
    FrozenReflector,
    PolicyReflector,
    Reflection,
    Reflector,
    ServerReflection,
    ServerReflector,
)
from steadyrl.algorithms.reflection_prompts import ReflectionStyle
from steadyrl.base.concurrency import concurrently
from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.records.message import Message
from steadyrl.records.weight_source import StateDictWeights

PROMPTS = [(Message(role="user", content=text),) for text in ("one", "two", "three")]


def scripted(answers: dict[str, str], **options: Any) -> ScriptedEngine:
    def answer(prompt: str, _number: int, _call: int) -> str:
        return answers[prompt.removeprefix("<|user|>").removesuffix("<|assistant|>")]

    return ScriptedEngine(answer, **options)


def test_the_policy_s_reflections_come_with_the_tokens_they_were_drawn_as() -> None:
    engine = scripted({"one": "a", "two": "<think>x</think>b", "three": "c..."})
    reflector = PolicyReflector(COMPACT, TOKENIZER)
    assert isinstance(reflector, Reflector)
    reflections = reflect(reflector, engine)
    assert [r.lesson for r in reflections] == ["a", "b", ""]
    assert [r.failure for r in reflections] == [
        "",
        "",
        "the reflection was not finished after 1 tokens",
    ]
    assert [r.prompt for r in reflections] == PROMPTS
    tokens = reflections[0].completion
    assert tokens is not None
    assert TOKENIZER.decode(tokens.token_ids) == "a<|end|>"


def test_a_held_policy_s_reflections_come_without_tokens_to_learn_from() -> None:
    held, trained = scripted({"one": "a", "two": "b", "three": "c"}), scripted({})
    settings = FrozenReflection(**COMPACT.model_dump(exclude={"name", "malformed"}))
    reflector = FrozenReflector(settings, TOKENIZER, lambda: held)
    assert isinstance(reflector, Reflector)
    with pytest.raises(AssertionError, match="no weights were frozen"):
        reflect(reflector, trained)
    drive(reflector.freeze(StateDictWeights(state={}, version=7)))
    reflections = reflect(reflector, trained)
    assert held.policy_version == 7
    assert [r.lesson for r in reflections] == ["a", "b", "c"]
    assert [r.completion for r in reflections] == [None] * 3
    assert not trained.calls


def test_a_prompt_without_room_is_not_asked_and_moves_no_other_s_random_numbers() -> None:
    def seeds(engine: ScriptedEngine) -> dict[str, int]:
        reflect(PolicyReflector(COMPACT, TOKENIZER), engine)
        return {TOKENIZER.decode(r.prompt_ids): r.seed for r in engine.calls[0]}

    answers = dict.fromkeys(("one", "two", "three"), "a")
    everyone = seeds(scripted(answers))
    # 5 tokens of "one" and "two" fit with an answer of 16; the 7 of "three" do not.
    fitting = scripted(answers, max_positions=21)
    assert seeds(fitting) == {k: v for k, v in everyone.items() if "three" not in k}
    third = reflect(PolicyReflector(COMPACT, TOKENIZER), fitting)[2]
    assert third.failure == "the record leaves no room for a reflection"
    assert third.completion is None
    assert third.reply == ""


def server_reflection(url: str, **options: Any) -> ServerReflection:
    values = {"style": ReflectionStyle.COMPACT, "retry_wait": 0.0, "max_length": 40, **options}
    return ServerReflection(base_url=url, model="m", **values)


def reflect(
    reflector: Reflector, engine: ScriptedEngine, seed: int = 3, prompts: Any = PROMPTS
) -> list[Reflection]:
    """A reflection for each of `prompts`, all asked for at once."""
    return drive(
        concurrently(
            reflector.reflect(prompt, engine, seed + number)
            for number, prompt in enumerate(prompts)
        )
    )


def asked(call: Call) -> str:
    return call.body["messages"][-1]["content"]


def test_a_server_reflects_on_several_attempts_at_once_and_answers_in_order() -> None:
    meeting = threading.Barrier(3, timeout=20)

    def answer(call: Call, _number: int) -> Answer:
        meeting.wait()  # passes only when all three are under way
        return says(f"of {asked(call)}")

    with chat_server(answer) as (url, calls):
        reflector = ServerReflector(server_reflection(url))
        assert isinstance(reflector, Reflector)
        reflections = reflect(reflector, scripted({}))
    assert [r.lesson for r in reflections] == ["of one", "of two", "of three"]
    assert {r.completion for r in reflections} == {None}
    assert len({call.body["seed"] for call in calls}) == 3


def test_failures_of_a_server_are_reasons_and_no_exceptions() -> None:
    answers = {"one": says("fine"), "two": Answer(b"", status=400), "three": says("x" * 41)}
    with chat_server(lambda call, _: answers[asked(call)]) as (url, _):
        reflections = reflect(ServerReflector(server_reflection(url)), scripted({}))
    assert [r.lesson for r in reflections] == ["fine", "", ""]
    assert [r.reply for r in reflections] == ["fine", "", "x" * 41]
    assert "replied with status 400" in reflections[1].failure
    assert "41 characters" in reflections[2].failure
    gone = reflect(ServerReflector(server_reflection(url, retries=0)), scripted({}))
    assert all("cannot be reached" in r.failure for r in gone)


def test_a_server_without_its_key_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(UserError, match="NO_SUCH_KEY"):
        ServerReflector(server_reflection("http://127.0.0.1:9/v1", api_key_variable="NO_SUCH_KEY"))


def test_log_probabilities_of_a_reflection_are_the_engine_s() -> None:
    reflector = PolicyReflector(COMPACT, TOKENIZER)
    (reflection,) = reflect(reflector, scripted({"one": "a"}), prompts=PROMPTS[:1])
    assert reflection.completion is not None
    # The scripted engine's token at position p has log-probability -p in its first call.
    assert torch.equal(reflection.completion.logprobs, torch.tensor([-5.0, -6.0]))
