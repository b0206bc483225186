"""Checks that a chat template renders all messages and tools, and opens the model's turn.

Templates differ in the roles and tools that they support, and many silently drop the others. Each
shape of conversation (roles and tools) is checked once, with unique marker strings as texts.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any

from transformers import PreTrainedTokenizerBase

from steadyrl.base.errors import UserError
from steadyrl.policies.chat_templates import render
from steadyrl.records.message import Message

_REPLY, _NEXT = "qzreplyzq", "qznextzq"


def check_template(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    tools: Sequence[Sequence[dict[str, Any]]] | None,
) -> None:
    """Checks every shape of conversation that is new to this tokenizer.

    Raises:
        UserError: the template rejects a conversation, drops a message or a tool, or does not open
            the model's turn.
    """
    schemas = [json.dumps(list(s), default=str) for s in tools or [()] * len(conversations)]
    for conversation, schema in zip(conversations, schemas, strict=True):
        roles = tuple(message.role for message in conversation)
        _check_shape(tokenizer, str(tokenizer.chat_template), roles, schema)


@lru_cache(maxsize=512)
def _check_shape(
    tokenizer: PreTrainedTokenizerBase, template: str, roles: tuple[str, ...], schemas: str
) -> None:
    """Checks one shape of conversation.

    Args:
        template: Template of the tokenizer, a part of the cache key.
        schemas: Schemas of the tools as JSON.
    """
    marked = [{"role": role, "content": f"qz{n}zq"} for n, role in enumerate(roles)]
    tools = [_marked_tool(tool, n) for n, tool in enumerate(json.loads(schemas))] or None
    prompt = render(tokenizer, marked, tools, add_generation_prompt=True)
    lost = [message["role"] for message in marked if message["content"] not in prompt]
    if lost:
        raise UserError(
            f"The chat template of the tokenizer {tokenizer.name_or_path!r} drops messages of the "
            f"role {lost[0]!r} in a conversation with the roles {', '.join(roles)}. Use an "
            "environment or style with other roles, remove its system message if there is a "
            "setting for it, or fix tokenizer.chat_template."
        )
    unseen = [mark for mark in _marks(tools) if mark not in prompt]
    if unseen:
        raise UserError(
            f"The chat template of the tokenizer {tokenizer.name_or_path!r} drops the "
            f"{_PARTS[unseen[0][2]]} of tools, so the model could not call them. Let the "
            "environment write them into its messages, as hotpot_qa does by tool_text 'message', "
            "take a checkpoint whose template shows tools, or correct tokenizer.chat_template."
        )
    if roles[-1] != "assistant":
        _check_open_turn(tokenizer, marked, tools, prompt)


def _check_open_turn(
    tokenizer: PreTrainedTokenizerBase,
    marked: list[dict[str, str]],
    tools: list[dict[str, Any]] | None,
    prompt: str,
) -> None:
    """Checks that `prompt` ends with an open turn of the model, not of the user."""
    last = marked[-1]["content"]
    reply, next_one = (
        {"role": r, "content": c} for r, c in (("assistant", _REPLY), ("user", _NEXT))
    )
    try:
        answered = render(tokenizer, [*marked, reply], tools)
        asked = render(tokenizer, [*marked, reply, next_one], tools)
    except UserError:
        return
    opened = prompt.rpartition(last)[2]
    bare = render(tokenizer, marked, tools).rpartition(last)[2]
    before, found, _ = answered.rpartition(_REPLY)
    expected = before.rpartition(last)[2]
    if not found:
        return
    if opened == bare:  # "[/INST]" closes the question and opens the answer
        sound = opened.strip() == expected.strip()
    else:
        users = asked.rpartition(_NEXT)[0].rpartition(_REPLY)[2]
        sound = _shared(opened, expected) > max(_shared(bare, expected), _shared(opened, users) - 1)
    if not sound:
        raise UserError(
            f"The chat template of the tokenizer {tokenizer.name_or_path!r} does not open the "
            f"model's turn: a prompt ends with {opened[-40:]!r}, where a reply comes after "
            f"{expected[-40:]!r}. Let it write that for add_generation_prompt, as "
            "instruction-tuned checkpoints do."
        )


def _shared(text: str, other: str) -> int:
    """Length of the common prefix, ignoring white space."""
    pairs = zip("".join(text.split()), "".join(other.split()), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


_PARTS = {"n": "names", "d": "descriptions", "p": "parameters"}


def _marked_tool(tool: dict[str, Any], number: int) -> dict[str, Any]:
    """`tool` with markers as its name, its description and the names of its parameters."""
    function = tool.get("function", tool)
    marked = dict(function)
    for field in ("name", "description"):
        if field in function:
            marked[field] = f"qz{field[0]}{number}zq"
    parameters = function.get("parameters")
    if isinstance(parameters, dict) and parameters.get("properties"):
        properties = parameters["properties"].values()
        renamed = {f"qzp{number}x{n}zq": value for n, value in enumerate(properties)}
        marked["parameters"] = {**parameters, "properties": renamed, "required": list(renamed)}
    return {**tool, "function": marked} if "function" in tool else marked


def _marks(tools: list[dict[str, Any]] | None) -> list[str]:
    """The markers in `tools`."""
    found = []
    for tool in tools or []:
        function = tool.get("function", tool)
        parameters = function.get("parameters")
        properties = parameters.get("properties", {}) if isinstance(parameters, dict) else {}
        found += [function[field] for field in ("name", "description") if field in function]
        found += list(properties)
    return [mark for mark in found if mark.startswith("qz")]
