"""The date in chat templates, and what is noted of them."""

from datetime import date, datetime

import pytest
from transformers.utils import chat_template_utils

from steadyrl.policies.chat_templates import freeze_date, render, writes_date
from steadyrl.policies.template_notes import template_notes
from steadyrl.policies.tokenizers import CHAT_TEMPLATE, END, character_tokenizer

USER = [{"role": "user", "content": "1"}]
FORMATS = ["%d %b %Y", "%-d.%-m.%y", "%A, %B %d", "%Y-%m-%d %H:%M:%S", "%j %% %I%p", "%F", "%e"]


class Tomorrow(datetime):
    @classmethod
    def now(cls, tz: object = None) -> "Tomorrow":
        return cls(2031, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("written", FORMATS)
def test_a_frozen_template_writes_its_day_whatever_the_clock_says(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    tokenizer = character_tokenizer()
    template = f"{{%- set now = strftime_now({written!r}) %}}\n {{{{ now }}}}|" + CHAT_TEMPLATE
    tokenizer.chat_template = template
    said = "|<|user|>1"
    assert writes_date(tokenizer)
    assert render(tokenizer, USER) == " " + Tomorrow.now().strftime(written) + said
    freeze_date(tokenizer, date(2026, 3, 4))
    assert render(tokenizer, USER) == " " + datetime(2026, 3, 4).strftime(written) + said
    assert tokenizer.chat_template == template


def test_a_frozen_date_changes_nothing_of_other_templates() -> None:
    tokenizer = character_tokenizer()
    before = render(tokenizer, USER)
    freeze_date(tokenizer, date(2026, 3, 4))
    assert not writes_date(tokenizer)
    assert render(tokenizer, USER) == before
    assert template_notes(tokenizer) == []


def test_the_date_and_changed_white_space_are_noted() -> None:
    tokenizer = character_tokenizer()
    stripping = CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim")
    tokenizer.chat_template = "{{ strftime_now('%d') }}" + stripping
    freeze_date(tokenizer, date(2026, 3, 4))
    assert template_notes(tokenizer) == [
        "The chat template writes the date: it stays 2026-03-04 for the whole run.",
        "The chat template strips white space around the content of messages.",
    ]


def test_a_token_that_begins_texts_twice_is_noted() -> None:
    tokenizer = character_tokenizer()
    tokenizer.bos_token = END
    tokenizer.chat_template = "{{ bos_token }}" + CHAT_TEMPLATE
    assert template_notes(tokenizer) == []
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    (note,) = template_notes(tokenizer)
    assert note.startswith("Prompts begin with '<|end|>' twice")
