"""Turns of the model that call tools."""

import json
from typing import Any

from steadyrl.environments.thinking import strip_thinking
from steadyrl.records.tool_calls import ToolCall, ToolSettings, read_calls


class ToolError(ValueError):
    """A tool cannot be called as the model asked. The message is for the model."""


def calls_of(text: str, form: ToolSettings) -> tuple[ToolCall, ...]:
    """The tool calls of a turn. Those inside thinking do not count."""
    return read_calls(strip_thinking(text), form)[1]


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call by name.

    Raises:
        ToolError: they are not a JSON object.
    """
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError) as error:
        raise ToolError("The arguments are not JSON.") from error
    if not isinstance(arguments, dict):
        raise ToolError("The arguments are not a JSON object.")
    return arguments
