"""Requests of `/v1/responses`: the conversation that a list of items describes."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from steadyrl.base.text import map_texts, well_formed
from steadyrl.gateway.conversation import ChatMessage, Conversation, JsonObject
from steadyrl.gateway.errors import ApiError
from steadyrl.gateway.requests import SamplingRequest
from steadyrl.gateway.sessions import Session
from steadyrl.records.tool_calls import ToolCall

LOGPROBS = "message.output_text.logprobs"


class Part(BaseModel):
    """A piece of text."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["input_text", "output_text", "text"]
    text: str


Content = str | list[Part]


class MessageItem(BaseModel):
    """A message."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: Content


class CallItem(BaseModel):
    """A tool call of the model."""

    model_config = ConfigDict(extra="ignore")

    name: str
    arguments: str


class OutputItem(BaseModel):
    """The output of a tool."""

    model_config = ConfigDict(extra="ignore")

    output: Content


def _kind(item: Any) -> str:
    kind = item.get("type", "message") if isinstance(item, Mapping) else "message"
    return kind if isinstance(kind, str) else repr(kind)


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[OutputItem, Tag("function_call_output")],
    Discriminator(_kind),
]


class FunctionTool(BaseModel):
    """A function that the model may call. `strict` is accepted, and not enforced."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @property
    def schema_of_chat(self) -> JsonObject:
        """The tool as `/v1/chat/completions` and chat templates have it."""
        given = {"description": self.description, "parameters": self.parameters}
        known = {name: value for name, value in given.items() if value is not None}
        return {"type": "function", "function": {"name": self.name, **known}}


def _items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class ResponsesRequest(SamplingRequest):
    """A request of `/v1/responses`."""

    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "background": (False,),
        "conversation": (),
        "context_management": ([],),
        "max_tool_calls": (),
        "moderation": (),
        "prompt": (),
        "text": ({"format": {"type": "text"}}, {}),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
    }

    input: Annotated[
        Annotated[list[Item], Field(min_length=1)],
        BeforeValidator(_items),
    ]
    n: Literal[1] = 1
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = (
        None
    )

    @property
    def budget(self) -> int | None:
        """Maximum number of tokens of the answer; None: not given."""
        return self.max_output_tokens

    @property
    def with_logprobs(self) -> bool:
        """Whether the reply has log-probabilities."""
        return LOGPROBS in (self.include or ())

    def conversation(self, session: Session | None) -> Conversation:
        """Instructions, the messages up to the previous response, and those of this request.

        Raises:
            ApiError: there is no such response, or the last message is the model's own.
        """
        said = (*self._earlier(session), *_messages(self.input))
        if self.instructions is not None:
            said = (ChatMessage(role="system", text=well_formed(self.instructions)), *said)
        tools = () if self.tool_choice == "none" else tuple(self.tools or ())
        shown = [map_texts(tool.schema_of_chat, well_formed) for tool in tools]
        return Conversation.checked(said, shown, param="input")

    def _earlier(self, session: Session | None) -> tuple[ChatMessage, ...]:
        previous = self.previous_response_id
        if previous is None:
            return ()
        if session is None or previous not in session.responses:
            where = "outside of a session" if session is None else f"in session {session.id!r}"
            raise ApiError(
                f"There is no response {previous!r:.80} {where}. Name a session by the base URL "
                "/sessions/NAME/v1, or send the whole conversation.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return session.responses[previous]

    def without_instructions(self, conversation: Conversation) -> tuple[ChatMessage, ...]:
        """The messages that a later response continues, which brings its own instructions."""
        return conversation.messages[self.instructions is not None :]


def _messages(items: Iterable[MessageItem | CallItem | OutputItem]) -> list[ChatMessage]:
    """Messages of items. Calls belong to the model's message before them."""
    messages: list[ChatMessage] = []
    for item in items:
        if isinstance(item, CallItem):
            call = ToolCall.of(item.name, item.arguments)
            last = messages[-1] if messages and messages[-1].role == "assistant" else None
            if last is not None:
                messages.pop()
            text, calls = ("", ()) if last is None else (last.text, last.calls)
            messages.append(ChatMessage(role="assistant", text=text, calls=(*calls, call)))
        elif isinstance(item, OutputItem):
            messages.append(ChatMessage(role="tool", text=_text(item.output)))
        else:
            role = "system" if item.role == "developer" else item.role
            messages.append(ChatMessage(role=role, text=_text(item.content)))
    return messages


def _text(content: Content) -> str:
    parts = content if isinstance(content, list) else []
    text = content if isinstance(content, str) else "".join(part.text for part in parts)
    return well_formed(text)
