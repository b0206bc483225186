"""Episodes with an engine that follows a script."""

import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.protocol import Outcome, Split, Task
from steadyrl.policies.response_text import response_text
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message
from steadyrl.records.trajectory import Group, Trajectory
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.tasks import make_tasks
from tests.progress import Heard
from tests.rollout.fakes import (
    TOKENIZER,
    Answer,
    LongQuiz,
    Quiz,
    ScriptedEngine,
    TenthsQuiz,
    Unreliable,
    ids_of,
    some_tasks,
)

SAMPLING = Sampling(max_new_tokens=8)


def play(
    engine: ScriptedEngine,
    *,
    turns: int = 1,
    tasks: int = 1,
    group_size: int = 1,
    seed: int = 3,
    max_turns: int = 32,
    environment: Quiz | None = None,
) -> list[Group]:
    environment = environment or Quiz(turns=turns)
    return drive(
        play_groups(
            environment,
            engine,
            TOKENIZER,
            some_tasks(environment, tasks),
            group_size=group_size,
            sampling=SAMPLING,
            seed=seed,
            max_turns=max_turns,
        )
    )


def episode(answer: Answer, *, turns: int = 1, max_turns: int = 32) -> Trajectory:
    (group,) = play(ScriptedEngine(answer), turns=turns, max_turns=max_turns)
    return group.trajectories[0]


def said(trajectory: Trajectory) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in trajectory.messages]


def test_an_episode_is_its_conversation_and_the_sum_of_its_rewards() -> None:
    words = ["right", "wrong", "right"]
    trajectory = episode(lambda _prompt, _number, call: words[call], turns=3)
    assert said(trajectory) == [
        ("user", "q0"),
        ("assistant", "right"),
        ("user", "next"),
        ("assistant", "wrong"),
        ("user", "next"),
        ("assistant", "right"),
    ]
    assert trajectory.task_id == "quiz/train/0"
    assert trajectory.reward == 2
    assert trajectory.feedback == "you wrote right\nyou wrote wrong\nyou wrote right"
    assert (trajectory.terminated, trajectory.truncated) == (True, False)
    assert trajectory.truncation_reason == ""
    assert len(trajectory.completions) == 3


def test_each_turn_answers_the_whole_conversation_so_far() -> None:
    engine = ScriptedEngine(lambda _prompt, _number, call: "ab"[call])
    play(engine, turns=2)
    prompts = [TOKENIZER.decode(call[0].prompt_ids) for call in engine.calls]
    assert prompts == [
        "<|user|>q0<|assistant|>",
        "<|user|>q0<|assistant|>a<|end|><|user|>next<|assistant|>",
    ]


def test_a_group_is_one_request_and_then_every_episode_goes_its_own_way() -> None:
    def answer(prompt: str, number: int, call: int) -> str:
        if call == 0:
            return ["bad", "right", "crash"][number]
        return "right" if "q1" in prompt else "bad"

    engine = ScriptedEngine(answer)
    groups = play(engine, turns=2, tasks=2, group_size=3)
    assert [[r.num_completions for r in call] for call in engine.calls] == [[3, 3], [1, 1]]
    assert [group.task_id for group in groups] == ["quiz/train/0", "quiz/train/1"]
    assert [group.rewards.tolist() for group in groups] == [[0, 1, 0], [0, 2, 0]]
    assert [[len(t.completions) for t in group.trajectories] for group in groups] == [[1, 2, 1]] * 2


def test_failure_of_the_environment_is_a_truncated_episode_with_its_reason() -> None:
    words = ["right", "crash"]
    trajectory = episode(lambda _prompt, _number, call: words[call], turns=3)
    assert (trajectory.terminated, trajectory.truncated) == (False, True)
    reason = r"environment failed: KeyError: 'no such word' \(.*fakes\.py:\d+\)"
    assert re.fullmatch(reason, trajectory.truncation_reason)
    assert trajectory.reward == 1  # of the turn before
    assert said(trajectory)[-1] == ("assistant", "crash")


@pytest.mark.parametrize("answer", [(1.0, True), None, 1.0])
def test_an_answer_that_is_no_outcome_is_a_failure_of_the_environment(answer: Any) -> None:
    class Terse(Quiz):
        def start(self, task: Task) -> Any:
            return SimpleNamespace(respond=lambda _text: answer)

    engine = ScriptedEngine(lambda *_: "right")
    ((trajectory,),) = [group.trajectories for group in play(engine, environment=Terse())]
    assert trajectory.environment_failed
    assert (
        f"TypeError: respond returned {answer!r}, which is not an Outc"
        in trajectory.truncation_reason
    )


def test_an_environment_cannot_end_the_run() -> None:
    class Quitting(Quiz):
        def start(self, task: Task) -> Any:
            return SimpleNamespace(respond=lambda _text: sys.exit(3))

    engine = ScriptedEngine(lambda *_: "right")
    ((trajectory,),) = [group.trajectories for group in play(engine, environment=Quitting())]
    reason = r"environment failed: SystemExit: 3 \(.*test_episodes\.py:\d+\)"
    assert re.fullmatch(reason, trajectory.truncation_reason)


def test_an_episode_that_does_not_start_and_a_task_that_is_not_there_fail_alone() -> None:
    environment = Unreliable(tasks=[1], starts=1)
    engine = ScriptedEngine(lambda *_: "right")
    groups = drive(
        play_groups(
            environment,
            engine,
            TOKENIZER,
            make_tasks(environment, Split.TRAIN, range(3)),
            group_size=2,
            sampling=SAMPLING,
            seed=3,
        )
    )
    assert [[t.environment_failed for t in g.trajectories] for g in groups] == [
        [True, False],
        [True, True],
        [False, False],
    ]
    assert [g.task_id for g in groups] == ["quiz/train/0", "train/1", "quiz/train/2"]
    reasons = [
        groups[0].trajectories[0].truncation_reason,
        groups[1].trajectories[1].truncation_reason,
    ]
    assert reasons[0].startswith(
        "environment failed: Unreliable.start failed on the task 'quiz/train/0': ConnectionError: "
    )
    assert reasons[1].startswith(
        "environment failed: Unreliable.task failed on number 1 of the train split: IndexError: no"
    )
    assert [request.num_completions for request in engine.calls[0]] == [1, 2]
    assert groups[0].played.rewards.tolist() == [1.0]
    # Those that are played have the seeds that they have where nothing fails.
    whole = ScriptedEngine(lambda *_: "right")
    play(whole, tasks=3, group_size=2)
    seeds = [request.seed for request in whole.calls[0]]
    assert [request.seed for request in engine.calls[0]] == [seeds[0], seeds[2]]


def test_a_conversation_that_the_chat_template_refuses_ends_its_episode_alone() -> None:
    class Rude(Quiz):
        def start(self, task: Task) -> Any:
            def respond(text: str) -> Outcome:
                says = Message(role="tool" if text == "bad" else "user", content="next")
                return Outcome(reward=0.0, terminated=False, observation=(says,))

            return SimpleNamespace(respond=respond)

    tokenizer = character_tokenizer()
    refusal = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}"
    tokenizer.chat_template = f"{refusal}{{% endif %}}{{% endfor %}}{tokenizer.chat_template}"
    engine = ScriptedEngine(lambda _prompt, number, _call: ["bad", "right"][number])
    environment = Rude()
    (group,) = drive(
        play_groups(
            environment,
            engine,
            tokenizer,
            some_tasks(environment, 1),
            group_size=2,
            sampling=SAMPLING,
            seed=3,
            max_turns=2,
        )
    )
    first, second = group.trajectories
    assert first.environment_failed
    assert "rejects a conversation with the roles user, assistant, tool" in first.truncation_reason
    assert second.truncation_reason == "not over after 2 turns"


def test_ten_turns_of_a_tenth_earn_the_full_reward() -> None:
    (group,) = play(ScriptedEngine(lambda *_: "x"), environment=TenthsQuiz())
    assert sum([0.1] * 10) < 1
    assert group.trajectories[0].reward == 1
    assert group.trajectories[0].reward_parts == {"tenth": 1}


def test_spent_budget_is_a_truncated_episode_that_the_environment_does_not_see() -> None:
    trajectory = episode(lambda *_: "right...", turns=2)
    assert (trajectory.terminated, trajectory.truncated) == (False, True)
    assert trajectory.truncation_reason == "token budget spent"
    assert trajectory.reward == 0
    assert said(trajectory)[-1] == ("assistant", "right")


def test_too_many_turns_are_a_truncated_episode() -> None:
    trajectory = episode(lambda *_: "right", turns=5, max_turns=2)
    assert (trajectory.terminated, trajectory.truncated) == (False, True)
    assert trajectory.truncation_reason == "not over after 2 turns"
    assert len(trajectory.completions) == 2
    assert trajectory.reward == 2


def test_an_episode_that_ends_with_its_last_turn_is_not_truncated() -> None:
    trajectory = episode(lambda *_: "right", turns=2, max_turns=2)
    assert (trajectory.terminated, trajectory.truncated) == (True, False)


def test_a_conversation_without_room_to_answer_is_truncated_and_the_others_go_on() -> None:
    # Two episodes answer with 5 and 6 letters, so the second's next prompt is one token longer.
    def answer(_prompt: str, number: int, call: int) -> str:
        return ("x" * (5 + number)) if call == 0 else "right"

    def reasons(max_positions: int) -> list[str]:
        engine = ScriptedEngine(answer, max_positions=max_positions)
        (group,) = play(engine, turns=2, group_size=2)
        return [trajectory.truncation_reason for trajectory in group.trajectories]

    second = ids_of("<|user|>q0<|assistant|>xxxxx<|end|><|user|>next<|assistant|>")
    fits = len(second) + SAMPLING.max_new_tokens
    told = f"conversation of {len(second) + 1} tokens leaves no room to answer"
    assert reasons(fits + 1) == ["", ""]
    assert reasons(fits) == ["", told]
    assert reasons(fits - 1) == [told.replace(str(len(second) + 1), str(len(second))), told]


def test_a_prompt_without_room_to_answer_is_not_begun_and_the_others_go_on() -> None:
    def played(environment: Quiz, max_positions: int | None) -> tuple[list[Group], ScriptedEngine]:
        engine = ScriptedEngine(lambda *_: "right", max_positions=max_positions)
        return play(engine, tasks=3, group_size=2, environment=environment), engine

    groups, engine = played(LongQuiz(1), 20)
    for trajectory in groups[1].trajectories:
        # user, q1 and 100 letters more, assistant.
        told = "prompt too long: 104 tokens leave no room to answer"
        assert (trajectory.truncated, trajectory.truncation_reason) == (True, told)
        assert (trajectory.prompt_too_long, trajectory.was_played) == (True, False)
        assert (trajectory.completions, trajectory.reward) == ((), 0.0)
    others, unlimited = played(LongQuiz(1), None)
    assert [groups[i].rewards.tolist() for i in (0, 2)] == [[1.0, 1.0]] * 2
    seeds = [request.seed for request in unlimited.calls[0]]
    assert [request.seed for request in engine.calls[0]] == [seeds[0], seeds[2]]
    assert all(t.was_played for group in others for t in group.trajectories)


def test_prompts_that_all_leave_no_room_to_answer_are_refused() -> None:
    message = (
        r"None of 2 prompts leaves room .* task 'quiz/train/0' has 104 tokens and needs "
        r"112 positions with sampling.max_new_tokens 8, but the engine has 111. Lower sampling"
    )
    engine = ScriptedEngine(lambda *_: "right", max_positions=111)
    with pytest.raises(UserError, match=message):
        play(engine, tasks=2, environment=LongQuiz(0, 1))
    assert play(engine, tasks=0) == []


def test_seeds_are_of_the_run_the_turn_and_the_place() -> None:
    def seeds(seed: int) -> list[int]:
        engine = ScriptedEngine(lambda *_: "right")
        play(engine, turns=2, tasks=2, group_size=2, seed=seed)
        return [request.seed for call in engine.calls for request in call]

    assert seeds(3) == seeds(3)
    assert len(set(seeds(3) + seeds(4))) == 2 * (2 + 4)


def test_the_place_of_an_episode_keeps_its_seed_when_others_have_ended() -> None:
    def second_turn_seeds(quitter: int | None) -> dict[str, int]:
        def answer(_prompt: str, number: int, call: int) -> str:
            return "bad" if number == quitter and call == 0 else f"w{number}"

        engine = ScriptedEngine(answer)
        play(engine, turns=2, group_size=3)
        return {TOKENIZER.decode(r.prompt_ids): r.seed for r in engine.calls[1]}

    everyone, without_first = second_turn_seeds(None), second_turn_seeds(0)
    assert len(without_first) == 2
    assert without_first.items() <= everyone.items()


def completion(text: str, reason: FinishReason) -> Completion:
    tokens = ids_of(text)
    return Completion(
        prompt_ids=torch.tensor([2]),
        token_ids=tokens,
        logprobs=torch.zeros(len(tokens)),
        finish_reason=reason,
        policy_version=0,
    )


def test_response_is_the_text_without_its_end_token_only() -> None:
    stopped = completion("a <|tool|>b<|end|>", FinishReason.STOP)
    assert response_text(stopped, TOKENIZER) == "a <|tool|>b"
    assert response_text(completion("<|end|>", FinishReason.STOP), TOKENIZER) == ""
    assert response_text(completion("a b", FinishReason.LENGTH), TOKENIZER) == "a b"


def test_response_is_not_tidied_up_though_the_tokenizer_would() -> None:
    tidy = character_tokenizer()
    tidy.clean_up_tokenization_spaces = True
    written = completion("go . left , I 'm", FinishReason.LENGTH)
    assert tidy.decode(written.token_ids) == "go. left, I'm"
    assert response_text(written, tidy) == "go . left , I 'm"


def test_episodes_that_are_over_are_counted_while_they_are_played() -> None:
    heard = Heard()
    environment = Quiz(turns=2)
    drive(
        play_groups(
            environment,
            ScriptedEngine(
                lambda _prompt, number, call: "bad" if (number, call) == (1, 0) else "ok"
            ),
            TOKENIZER,
            some_tasks(environment, 2),
            group_size=2,
            sampling=SAMPLING,
            seed=3,
            progress=heard,
        )
    )

    # Answer 1 of each group ends its episode in the first turn, answer 0 in the second.
    assert heard.of("episodes") == [(n, 4) for n in range(5)]
