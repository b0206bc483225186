r"""Dialogue of HotpotQA episodes: prompt, tool calls and tool replies.

    chat      user:       ... <tools>...</tools> ... Question: Where ...?
              assistant:  <tool_call>
                          {"name": "local_search", "arguments": {"query": "..."}}
                          </tool_call>
              tool:       [Document 1] Title ...
              assistant:  \boxed{...}

    compact   user:       Where ...?
              assistant:  search(...)
              tool:       Boka is from Oslo. ...
              assistant:  \boxed{...}

The calls of the chat style are those that Qwen's chat templates ask for.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from steadyrl.base.text import well_formed
from steadyrl.environments.answer_formats import AnswerFormat, format_instruction
from steadyrl.environments.retrieval import Passage, escape_control_tokens
from steadyrl.records.message import Message

TOOL = "local_search"
MAX_PASSAGES = 50

_TAGGED_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_SHORT_CALL = re.compile(r"search\(([^()]*)\)")


class DialogueStyle(StrEnum):
    """Text form of HotpotQA episodes."""

    CHAT = "chat"
    """For instruction-tuned models: tool schema, and calls as JSON in <tool_call> tags."""

    COMPACT = "compact"
    """For small character-level models: the question alone, calls as search(...)."""


class CallError(ValueError):
    """Malformed tool call. The message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCall:
    """One call of the search tool."""

    query: str

    passages: int | None = None
    """Number of passages requested; None: the default of the tool."""


def tool_schema(passages: int) -> dict[str, Any]:
    """Schema of the search tool in the format of chat templates."""
    properties = {
        "query": {"type": "string", "description": "Search query."},
        "top_k": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_PASSAGES,
            "description": f"Number of passages to return. Default: {passages}.",
        },
    }
    return {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "Search for the passages that best match a query.",
            "parameters": {"type": "object", "properties": properties, "required": ["query"]},
        },
    }


def initial_messages(
    question: str,
    style: DialogueStyle,
    *,
    instruction: str | None,
    tool: dict[str, Any] | None,
) -> tuple[Message, ...]:
    """The prompt: instructions as the system message, then tool and question.

    Args:
        instruction: System message; empty: none, None: the default of the style.
        tool: Schema shown in the prompt; None: the chat template shows it.
    """
    if style is DialogueStyle.COMPACT:
        instruction, asked = instruction or "", escape_control_tokens(question)
    else:
        if instruction is None:
            instruction = "You are a helpful assistant who answers directly. " + format_instruction(
                AnswerFormat.BOXED
            )
        asked = f"Question: {escape_control_tokens(question)}"
        if tool is not None:
            asked = f"{_tool_text(tool)}\n\n{asked}"
    system = (Message(role="system", content=instruction),) if instruction else ()
    return (*system, Message(role="user", content=asked))


def _tool_text(tool: dict[str, Any]) -> str:
    return "\n".join(
        [
            "You have access to this tool:",
            "<tools>",
            json.dumps(tool),
            "</tools>",
            "To call it, write a JSON object with its name and arguments, then wait for the "
            "result:",
            format_call("...", DialogueStyle.CHAT),
        ]
    )


def format_call(query: str, style: DialogueStyle) -> str:
    """The turn in which a model searches for `query`."""
    if style is DialogueStyle.COMPACT:
        return f"search({re.sub('[()]', ' ', query)})"
    call = {"name": TOOL, "arguments": {"query": query}}
    return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"


def parse_calls(text: str, style: DialogueStyle) -> tuple[SearchCall, ...]:
    """Tool calls of a turn, in order; empty if there are none.

    Raises:
        CallError: a call is malformed or names another tool.
    """
    if style is DialogueStyle.COMPACT:
        return _short_calls(text)
    calls = _TAGGED_CALL.findall(text)
    if "<tool_call>" in _TAGGED_CALL.sub("", text):
        raise CallError("a <tool_call> is not closed")
    return tuple(_tagged_call(call) for call in calls)


def _short_calls(text: str) -> tuple[SearchCall, ...]:
    calls = _SHORT_CALL.findall(text)
    if "search(" in _SHORT_CALL.sub("", text):
        raise CallError("a search(...) is not closed")
    return tuple(SearchCall(query=_query(call)) for call in calls)


def _tagged_call(text: str) -> SearchCall:
    try:
        call = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CallError("a <tool_call> does not contain JSON") from error
    match call:
        case {"name": str(name), "arguments": dict(arguments), **others} if not others:
            pass
        case _:
            raise CallError('a <tool_call> must contain {"name": ..., "arguments": {...}}')
    if name != TOOL:
        raise CallError(f"there is no tool {name[:40]!r}, only {TOOL!r}")
    unknown = sorted(arguments.keys() - {"query", "top_k"})
    if unknown:
        raise CallError(f"{TOOL} has no argument {unknown[0][:40]!r}, only 'query' and 'top_k'")
    passages = arguments.get("top_k")
    if passages is not None and (type(passages) is not int or not 1 <= passages <= MAX_PASSAGES):
        raise CallError(f"top_k must be an integer from 1 to {MAX_PASSAGES}")
    return SearchCall(query=_query(arguments.get("query")), passages=passages)


def _query(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise CallError("the query must be a non-empty string")
    return well_formed(value.strip())


def tool_message(passages: Sequence[Passage], style: DialogueStyle, *, max_length: int) -> Message:
    """Tool reply to a call, with each passage cut to `max_length` characters."""
    cut = [
        Passage(
            title=escape_control_tokens(p.title), text=escape_control_tokens(p.text[:max_length])
        )
        for p in passages
    ]
    if not cut:
        content = "Nothing was found."
    elif style is DialogueStyle.COMPACT:
        content = "\n".join(passage.text for passage in cut)
    else:
        documents = [f"[Document {n}] {p.title}\n{p.text}" for n, p in enumerate(cut, start=1)]
        content = "\n\n".join(documents)
    return Message(role="tool", content=content)
