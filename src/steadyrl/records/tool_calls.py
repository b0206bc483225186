"""Tool calls as data, and as text in the model's turn."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steadyrl.base.settings import Settings
from steadyrl.base.text import well_formed
from steadyrl.records.message import Message

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

    A call that cannot be read is text.
    """
    if settings.calls == "json":
        calls = _calls_of(text)
        return ("", calls) if calls else (text, ())
    calls = tuple(call for found in _TAGGED.findall(text) for call in _calls_of(found))
    if not calls:
        return text, ()
    rest = _TAGGED.sub(lambda found: "" if _calls_of(found[1]) else found[0], text)
    return rest.strip(), calls


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
