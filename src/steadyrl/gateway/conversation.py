"""Messages of requests in one form, so that later requests can be compared with earlier ones."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from steadyrl.base.text import map_texts, well_formed
from steadyrl.gateway.errors import ApiError
from steadyrl.gateway.requests import ChatRequest, MessageOfRequest
from steadyrl.records.message import Message, Role
from steadyrl.records.tool_calls import ToolCall, ToolSettings, write_calls

JsonObject = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """A message as the agent sees it. Equal messages say the same.

    Example:
        ChatMessage(role="user", text="3+4=")
    """

    role: Role
    text: str
    calls: tuple[ToolCall, ...] = ()

    @classmethod
    def of(cls, message: MessageOfRequest) -> "ChatMessage":
        """The message of a request. `developer` is another word for `system`."""
        content = message.content
        parts = content if isinstance(content, list) else []
        text = content if isinstance(content, str) else "".join(part.text for part in parts)
        calls = [
            ToolCall.of(call.function.name, call.function.arguments)
            for call in message.tool_calls or ()
        ]
        return cls(
            role="system" if message.role == "developer" else message.role,
            text=well_formed(text),
            calls=tuple(calls),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The messages and tools of a request.

    Example:
        Conversation(messages=(ChatMessage(role="user", text="3+4="),))
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[JsonObject, ...] = ()

    tools_key: str = field(init=False, compare=False, repr=False)
    """The tools as text, equal for equal tools."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools_key", json.dumps(self.tools, sort_keys=True))

    @classmethod
    def of(cls, request: ChatRequest) -> "Conversation":
        """The conversation of a request.

        Raises:
            ApiError: the last message is the model's own, or a tool is not valid.
        """
        messages = tuple(map(ChatMessage.of, request.messages))
        tools = () if request.tool_choice == "none" else tuple(request.tools or ())
        for tool in tools:
            function = tool.get("function")
            if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
                raise ApiError(
                    f"A tool is {tool!r:.80}. Give {{'type': 'function', 'function': {{'name': "
                    "..., 'parameters': ...}}}.",
                    param="tools",
                )
        return cls.checked(messages, map_texts(tools, well_formed), param="messages")

    @classmethod
    def checked(
        cls, messages: tuple[ChatMessage, ...], tools: Iterable[JsonObject], *, param: str
    ) -> "Conversation":
        """The conversation of messages in the field `param` of a request.

        Raises:
            ApiError: the last message is the model's own.
        """
        if messages[-1].role == "assistant":
            raise ApiError(
                "The last message has the role 'assistant'. Answers that continue a message are "
                "not supported: end with a message of another role.",
                param=param,
            )
        return cls(messages=messages, tools=tuple(tools))


def plain_messages(
    conversation: Sequence[ChatMessage],
    written: Mapping[ChatMessage, str],
    settings: ToolSettings,
) -> list[Message]:
    """Messages with tool calls as text.

    Args:
        written: Text that the model wrote for its own messages.
    """
    return [
        Message(
            role=message.role,
            content=written.get(message, write_calls(message.text, message.calls, settings))
            if message.role == "assistant"
            else message.text,
        )
        for message in conversation
    ]
