"""How many rows episodes fall into, and why."""

from dataclasses import replace

import pytest
import torch

from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.policies.tokenizers import CHAT_TEMPLATE, character_tokenizer
from steadyrl.records.trajectory import Group
from steadyrl.rollout.batching import token_batch
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.row_splits import split_note
from tests.rollout.fakes import Quiz, ScriptedEngine, some_tasks

THOUGHTS = CHAT_TEMPLATE.replace(
    "message['content'] }}",
    "(message['content'].split('>')[-1] if message['role'] == 'assistant'"
    " else message['content']) }}",
)


def play(template: str, reply: str) -> list[Group]:
    """An episode of three turns."""
    tokenizer, quiz = character_tokenizer(), Quiz(turns=3)
    tokenizer.chat_template = template
    return drive(
        play_groups(
            quiz,
            ScriptedEngine(lambda _prompt, _number, _call: reply),
            tokenizer,
            some_tasks(quiz, 1),
            group_size=1,
            sampling=Sampling(max_new_tokens=16),
            seed=0,
        )
    )


@pytest.mark.parametrize(
    ("template", "reply", "cause"),
    [
        (CHAT_TEMPLATE, "right", None),
        (THOUGHTS, "right", None),
        (THOUGHTS, "<hm>right", "the reply is rendered differently"),
        (CHAT_TEMPLATE.replace("<|end|>", "<|tool|>"), "right", "ends with other tokens"),
        ("{{ messages | length }}" + CHAT_TEMPLATE, "right", "earlier messages are rendered"),
    ],
)
def test_turns_that_begin_a_row_are_counted_with_the_reason(
    template: str, reply: str, cause: str | None
) -> None:
    groups = play(template, reply)
    note = split_note(groups)
    rows = len(token_batch(groups, [torch.ones(1)], pad_token_id=0).tokens)
    if cause is None:
        assert (note, rows) == (None, 1)
    else:
        assert note is not None
        assert note.startswith("2 of 2 later turns begin a new row")
        assert cause in note
        assert rows == 3


def test_episodes_without_later_turns_have_no_note() -> None:
    (group,) = play(CHAT_TEMPLATE, "bad")
    first = replace(group, trajectories=(group.trajectories[0],))
    assert split_note([first]) is None
    assert split_note([]) is None
