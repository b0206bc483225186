"""Chat templates: conversations as text, on a day that does not change during a run."""

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Any

from transformers import PreTrainedTokenizerBase

from steadyrl.base.errors import UserError, describe_error

_CLOCK = "strftime_now"
"""What templates read the clock by, as Llama 3.2 does."""

_DATE = "steadyrl_template_date"
"""Attribute of a tokenizer: the day that its template is given."""

_DIRECTIVES = "aAbBcdDeFGHIjmMpSuUVwWxXyYZz"


def render(
    tokenizer: PreTrainedTokenizerBase,
    conversation: Sequence[dict[str, str]],
    tools: list[dict[str, Any]] | None = None,
    *,
    add_generation_prompt: bool = False,
) -> str:
    """The conversation as the tokenizer's chat template writes it.

    Raises:
        UserError: there is no template, or it refuses the conversation.
    """
    if tokenizer.chat_template is None:
        raise UserError(
            f"The tokenizer {tokenizer.name_or_path!r} has no chat template, so prompts cannot be "
            "written for it. Use an instruction-tuned checkpoint, or set tokenizer.chat_template."
        )
    try:
        text: str = tokenizer.apply_chat_template(
            list(conversation),
            tools=tools,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            chat_template=_dated_template(tokenizer, tools),
        )
    except Exception as error:  # a template is foreign code, and many refuse what they do not know
        roles = ", ".join(message["role"] for message in conversation)
        raise UserError(
            f"The chat template of the tokenizer {tokenizer.name_or_path!r} refuses a conversation "
            f"of the roles {roles}{' with tools' if tools else ''}: {_reason(error)}. Take an "
            "environment or a style that asks with other roles, leave its system message out if it "
            "has a setting for it, or correct tokenizer.chat_template."
        ) from error
    return text


def writes_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template reads the clock, so that prompts differ from day to day."""
    return _CLOCK in str(tokenizer.chat_template)


def freeze_date(tokenizer: PreTrainedTokenizerBase, day: date) -> None:
    """Gives the chat template midnight of `day` from now on, instead of the clock.

    The template itself stays as it is, also in what `save_pretrained` writes.
    """
    vars(tokenizer)[_DATE] = day


def frozen_date(tokenizer: PreTrainedTokenizerBase) -> date | None:
    """The day that the chat template writes; None where it writes none, or reads the clock."""
    day: date | None = vars(tokenizer).get(_DATE)
    return day if writes_date(tokenizer) else None


def _dated_template(
    tokenizer: PreTrainedTokenizerBase, tools: list[dict[str, Any]] | None
) -> str | None:
    """The template under a clock that stands still; None for the tokenizer's own.

    Transformers hands no functions to a template, so that the clock is a macro in front of it.
    """
    day = frozen_date(tokenizer)
    if day is None:
        return None
    moment = datetime.combine(day, time())
    known = {
        f"%-{letter}": moment.strftime(f"%{letter}").lstrip("0") or "0" for letter in "dmHIMSj"
    }
    known |= {f"%{letter}": moment.strftime(f"%{letter}") for letter in _DIRECTIVES}
    known["%%"] = "%"
    replaced = "".join(f" | replace({name!r}, {text!r})" for name, text in known.items())
    macro = f"{{%- macro {_CLOCK}(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}"
    return macro + str(tokenizer.get_chat_template(tools=tools))


def _reason(error: Exception) -> str:
    line = getattr(error, "lineno", None)  # of a template that cannot be read
    return describe_error(error) + (f" (line {line})" if line else "")
