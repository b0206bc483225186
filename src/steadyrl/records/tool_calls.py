"""Tool calls as data, and as text in the model's turn."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steadyrl.base.settings import Settings
from steadyrl.base.text import well_formed
from steadyrl.records.message import Message

_OPEN = "<tool_call>"
_JSON_SPACE = " \t\n\r"
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


class ToolSettings(Settings):
    """How tools are shown to the model, and how it calls them."""

    shown: Literal["template", "message", "none"] = "template"
    """Where the model reads the schemas of tools. template: the chat template writes them; one that
    cannot is refused. message: a system message lists them. none: nowhere, for models that were
    trained with these tools."""

    calls: Literal["tagged", "json"] = "tagged"
    """How the model writes a call. tagged: JSON between <tool_call> tags, as Qwen and Hermes do.
    json: the whole answer is the JSON of a call or of a list of calls, as in Llama 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool by the model.

    Example:
        ToolCall.of("add", '{"a": 3, "b": 4}')
    """

    name: str
    arguments: str
    """The arguments as JSON, with sorted keys if they can be read, so that calls compare equal
    however a client writes them."""

    @classmethod
    def of(cls, name: str, arguments: Any) -> "ToolCall":
        """The call with arguments as a value, or as JSON text, which need not be valid.

        Raises:
            RecursionError: a value is nested too deeply.
        """
        try:
            value = json.loads(arguments) if isinstance(arguments, str) else arguments
            text = json.dumps(value, ensure_ascii=False, sort_keys=True)
        except (ValueError, RecursionError):
            if not isinstance(arguments, str):
                raise
            text = arguments
        return cls(name=well_formed(name), arguments=well_formed(text))


def read_calls(text: str, settings: ToolSettings) -> tuple[str, tuple[ToolCall, ...]]:
    """The text outside of tool calls, and the calls in it.

    A call that cannot be read is text. Whitespace around calls at the beginning and at the end is
    left out.
    """
    if settings.calls == "json":
        calls = _calls_of(text)
        return ("", calls) if calls else (text, ())
    read = [(found, _calls_of(found[1])) for found in _TAGGED.finditer(text)]
    calls = tuple(call for _, some in read for call in some)
    return _outside(text, [found for found, some in read if some]), calls


def settled_text(text: str, settings: ToolSettings) -> tuple[str, int]:
    """The beginning of the text outside of tool calls that stays the same however `text` goes on.

    Returns:
        That text, and the number of characters of `text` that it comes from.
    """
    if settings.calls == "json":
        may_be_call = text.lstrip(_JSON_SPACE)[:1] in ("", "{", "[")
        return ("", 0) if may_be_call else (text, len(text))
    last = 0
    for found in _TAGGED.finditer(text):
        last = found.end()
    kept = text[: last + before_match(text[last:], _OPEN)].rstrip()
    return read_calls(kept, settings)[0].rstrip(), len(kept)


def before_match(text: str, mark: str) -> int:
    """Number of characters before `mark`, or before what may become `mark` as `text` goes on."""
    place = text.find(mark)
    if place >= 0:
        return place
    place = text.find(mark[:1], max(0, len(text) - len(mark) + 1))
    while place >= 0 and not mark.startswith(text[place:]):
        place = text.find(mark[:1], place + 1)
    return len(text) if place < 0 else place


def _outside(text: str, calls: Sequence[re.Match[str]]) -> str:
    """`text` without `calls`, and without whitespace around those at its beginning and end."""
    if not calls:
        return text
    before = text[: calls[0].start()]
    kept = before if before.strip() else ""
    ends = [*(call.start() for call in calls[1:]), len(text)]
    for call, end in zip(calls, ends, strict=True):
        piece = text[call.end() : end]
        kept = kept + piece if kept else piece.lstrip()
    return kept.rstrip()


def write_calls(text: str, calls: Sequence[ToolCall], settings: ToolSettings) -> str:
    """The text of a turn with `calls`, as the model would write it."""
    if not calls:
        return text
    written = [f'{{"name": {json.dumps(c.name)}, "arguments": {c.arguments}}}' for c in calls]
    if settings.calls == "json":
        return written[0] if len(written) == 1 else f"[{', '.join(written)}]"
    tagged = [f"<tool_call>\n{call}\n</tool_call>" for call in written]
    return "\n".join([text, *tagged] if text else tagged)


def tools_text(tools: Sequence[dict[str, Any]], settings: ToolSettings) -> str:
    """A system message that lists tools and says how to call them."""
    listed = "\n".join(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools)
    call = '{"name": NAME, "arguments": {ARGUMENT: VALUE}}'
    form = f"<tool_call>\n{call}\n</tool_call>" if settings.calls == "tagged" else call
    return f"You have access to these tools:\n{listed}\nTo call one, write:\n{form}"


def with_tools(
    messages: Sequence[Message], tools: Sequence[dict[str, Any]], settings: ToolSettings
) -> tuple[list[Message], tuple[dict[str, Any], ...]]:
    """The messages, and the tools that the chat template writes."""
    if settings.shown == "template" or not tools:
        return list(messages), tuple(tools)
    if settings.shown == "none":
        return list(messages), ()
    text, others = tools_text(tools, settings), list(messages)
    if others and others[0].role == "system":
        text = f"{others.pop(0).content}\n\n{text}"
    return [Message(role="system", content=text), *others], ()


def _calls_of(text: str) -> tuple[ToolCall, ...]:
    """The calls in JSON; none if it is not JSON of calls."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    found = value if isinstance(value, list) else [value]
    try:
        calls = [
            ToolCall.of(one["name"], one.get("arguments", one.get("parameters", {})))
            for one in found
            if isinstance(one, dict) and isinstance(one.get("name"), str)
        ]
    except RecursionError:
        return ()
    return tuple(calls) if len(calls) == len(found) else ()
