"""Rendering of conversations by chat templates, with a date that is fixed for the run."""

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Any

from transformers import PreTrainedTokenizerBase

from steadyrl.base.errors import UserError, describe_error

_CLOCK = "strftime_now"
"""Function by which templates, such as the one of Llama 3.2, read the clock."""

_DATE = "steadyrl_template_date"
"""Attribute of a tokenizer that holds the date for its template."""

_DIRECTIVES = "aAbBcdDeFGHIjmMpSuUVwWxXyYZz"


def render(
    tokenizer: PreTrainedTokenizerBase,
    conversation: Sequence[dict[str, str]],
    tools: list[dict[str, Any]] | None = None,
    *,
    add_generation_prompt: bool = False,
) -> str:
    """Renders the conversation with the tokenizer's chat template.

    Raises:
        UserError: there is no template, or it rejects the conversation.
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
    except Exception as error:  # templates are user code, and many reject unknown roles
        roles = ", ".join(message["role"] for message in conversation)
        raise UserError(
            f"The chat template of the tokenizer {tokenizer.name_or_path!r} rejects a "
            f"conversation with the roles {roles}{' with tools' if tools else ''}: "
            f"{_reason(error)}. Use an environment or style with other roles, remove its system "
            "message if there is a setting for it, or fix tokenizer.chat_template."
        ) from error
    return text


def writes_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template reads the clock, so that prompts depend on the date."""
    return _CLOCK in str(tokenizer.chat_template)


def freeze_date(tokenizer: PreTrainedTokenizerBase, day: date) -> None:
    """Makes the chat template use midnight of `day` instead of the clock.

    The template itself is unchanged, also in the files written by `save_pretrained`.
    """
    vars(tokenizer)[_DATE] = day


def frozen_date(tokenizer: PreTrainedTokenizerBase) -> date | None:
    """The fixed date of the chat template; None if it does not use a date or reads the clock."""
    day: date | None = vars(tokenizer).get(_DATE)
    return day if writes_date(tokenizer) else None


def _dated_template(
    tokenizer: PreTrainedTokenizerBase, tools: list[dict[str, Any]] | None
) -> str | None:
    """The template with a fixed clock; None: use the tokenizer's own template.

    Transformers passes no functions to templates, so the clock is defined as a macro at the start.
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
