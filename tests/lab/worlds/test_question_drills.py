"""The cold start on coded questions: what is drilled is right, and tells no fixed meaning."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
from pydantic import ValidationError

from steadyrl.algorithms.reflection_prompts import (
    ReflectionStyle,
    make_record,
    reflection_prompt,
)
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.hotpot_qa import HotpotQA, HotpotQASettings
from steadyrl.environments.protocol import Environment, Split, Task
from steadyrl.lab.worlds.coded_questions import CodedQuestions
from steadyrl.lab.worlds.question_drills import QuestionDrills, QuestionDrillSettings
from steadyrl.policies.tokenizers import character_tokenizer, neutralize
from steadyrl.records.message import Conversation, Message
from steadyrl.rollout.episodes import play_groups
from tests.driving import collect
from tests.lab.worlds.teaching import taught
from tests.rollout.fakes import ScriptedEngine

QUESTIONS = HotpotQASettings(
    questions=CodedQuestions(relations=3, meaning=4), style="compact", passages=1
)
WORLD = HotpotQA(QUESTIONS)
TOKENIZER = character_tokenizer()


def drills_of(**changes: object) -> QuestionDrills:
    values = {"environment": QUESTIONS, "hidden_pairs": 0.0} | changes
    return QuestionDrills(QuestionDrillSettings(**values))


def only(kind: str, **changes: object) -> QuestionDrills:
    shares = {"first_attempts": 0.0, "reflections": 0.0, "retries": 0.0}
    return drills_of(**shares | ({kind: 1.0} if kind else {}) | changes)


def drilled(drills: QuestionDrills, index: int) -> tuple[Task, tuple[Conversation, ...]]:
    task = WORLD.task(Split.TRAIN, index)
    made = drills.demonstrate(task, np.random.default_rng(index))
    return task, (made.prompt, made.continuation)


def replayed(environment: Environment, task: Task, said: tuple[Message, ...]) -> float:
    """The reward of saying it all again; what was read between the turns is what is read now."""
    episode, said = environment.start(task), list(said)
    while said:
        outcome = episode.respond(said.pop(0).content)
        for message in outcome.observation:
            assert message == said.pop(0)
    assert outcome.terminated
    return outcome.reward


@pytest.mark.parametrize("kind", ["first_attempts", ""])
def test_attempts_of_the_drills_earn_the_reward(kind: str) -> None:
    for index in range(30):
        task, (prompt, said) = drilled(only(kind), index)
        expected = task if kind else WORLD.guide(task, WORLD.rulebook(task))
        assert prompt == expected.prompt
        assert [message.role for message in said] == [*["assistant", "tool"] * 2, "assistant"]
        assert tuple(m.content for m in said if m.role == "assistant") == WORLD.solution(task)
        assert replayed(WORLD, task, said) == 1.0


@pytest.mark.slow
def test_reflections_write_what_hint_and_memory_tell() -> None:
    remembered = rewarded = 0
    for index in range(200):
        task, (prompt, (written,)) = drilled(only("reflections", hidden_pairs=0.3), index)
        question, *_, hint, verdict, reward = prompt[-1].content.split("\n")
        assert question == task.prompt[0].content
        assert hint == task.payload.hint
        assert (verdict == "right") == (reward == "1")
        rewarded += reward == "1"
        memory = prompt[0].content if len(prompt) == 2 else ""
        remembered += bool(memory)
        for pair, true in zip(written.content.split(), WORLD.rulebook(task).split(), strict=True):
            told = true in hint or true in memory
            assert pair == (true if told else true[0] + "?")
    assert 70 < remembered < 130
    # A guess names 2 of 3 relations in order: one of 6 is right, 33 of 200, and few by accident.
    assert 15 < rewarded < 55


def test_the_prompt_of_a_reflection_is_that_of_the_algorithm() -> None:
    """As Experiential RL writes it of an episode that a policy has played."""
    drills = only("reflections")
    task, (prompt, _) = drilled(drills, 0)
    attempt = [line.partition("] ")[2] for line in prompt[-1].content.split("\n")[1:6:2]]
    engine = ScriptedEngine(lambda _prompt, _number, call: attempt[call])
    (group,) = drive(
        play_groups(WORLD, engine, TOKENIZER, [task], group_size=1, sampling=Sampling(), seed=0)
    )
    memory = prompt[0].content if len(prompt) == 2 else ""
    neutral = partial(neutralize, tokenizer=TOKENIZER)
    record = make_record(task, group.trajectories[0], memory, neutral)
    assert reflection_prompt(record, ReflectionStyle.COMPACT) == prompt


@pytest.mark.slow
def test_retries_follow_a_guess_that_failed_and_earn_the_reward() -> None:
    conversations = 0
    for index in range(60):
        task, (prompt, said) = drilled(only("retries"), index)
        assert replayed(WORLD, task, said) == 1.0
        if len(prompt) == 2:
            record, asked = prompt
            assert (asked,) == task.prompt
            assert record.content.endswith(f"{task.payload.hint}\nwrong\n0")
        else:
            *failed, again = prompt[1:]
            assert replayed(WORLD, task, tuple(failed)) == 0.0
            assert again.content == f"{task.payload.hint}\nwrong\n{task.prompt[0].content}"
            conversations += 1
    assert 15 < conversations < 45


def test_pairs_are_hidden_at_their_rate() -> None:
    drills = only("", hidden_pairs=0.25)
    rulebooks = [drilled(drills, index)[1][0][0].content for index in range(200)]
    hidden = np.mean([book.count("?") / 3 for book in rulebooks])
    # 600 pairs: a standard error of sqrt(.25 * .75 / 600) = 0.018.
    assert abs(hidden - 0.25) < 0.08


@pytest.mark.slow
def test_no_drill_has_the_meaning_that_is_kept_for_reinforcement() -> None:
    fixed = HotpotQA(
        QUESTIONS.model_copy(
            update={"questions": CodedQuestions(relations=3, meaning=4, words="fixed")}
        )
    )
    kept = fixed.rulebook(fixed.task(Split.TRAIN, 0))
    books = Counter(drilled(only(""), index)[1][0][0].content for index in range(200))
    assert kept not in books
    assert len(books) == 5


def test_a_batch_is_the_same_whenever_it_is_asked_for() -> None:
    engine = ScriptedEngine(lambda *_: "nothing is to be sampled")
    first, again = (collect(taught(drills_of()), 3, engine) for _ in range(2))
    ((one,),), ((other,),) = first.mini_batches, again.mini_batches
    assert one.tokens.equal(other.tokens)
    assert one.loss_mask.any(dim=1).all()
    assert len(one.tokens) == 16  # an episode is one row


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environment": HotpotQASettings()}, "not coded with permuted words: .* Set questions.na"),
        (
            {"environment": HotpotQASettings(questions=CodedQuestions(words="fixed"))},
            "not coded with permuted words",
        ),
        (
            {"environment": HotpotQASettings(questions=CodedQuestions())},
            "style is 'chat': drills are written in the compact style. Set it",
        ),
        (
            {"environment": QUESTIONS.model_copy(update={"turns": 2})},
            "turns is 2: a question takes two searches and an answer. Set it to 3 or more",
        ),
        ({"reflections": 0.8, "retries": 0.3}, "together more than 1. Lower one"),
    ],
)
def test_what_cannot_be_drilled_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QuestionDrillSettings(**changes)


def test_a_prior_makes_first_attempts_search_by_the_first_meaning() -> None:
    drills = only("first_attempts", prior=True)
    believed = dict(zip("klm", "aei", strict=True))
    for index in range(20):
        task, (_, continuation) = drilled(drills, index)
        searches = [m.content for m in continuation if m.content.startswith("search(")]
        words = task.payload.question.split()[1:]
        assert [call[-2] for call in searches] == [believed[word] for word in words]
