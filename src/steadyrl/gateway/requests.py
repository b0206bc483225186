"""Requests of OpenAI's API, as far as the gateway supports them.

Fields that would change what is sampled and are not supported are refused; those that only concern
OpenAI's accounts are ignored.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from steadyrl.engines.protocol import Sampling
from steadyrl.gateway.errors import ApiError

MAX_SEED = 2**63
MAX_STOPS = 4

IGNORED = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    }
)
"""Fields that have no effect."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "top_logprobs": (0,),
    "functions": ([],),
    "function_call": ("none",),
}
"""Fields that are refused unless they have one of these values, or null."""


def _stops(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class SamplingRequest(BaseModel):
    """Fields of every request for answers."""

    model_config = ConfigDict(extra="forbid")

    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = NEUTRAL

    model: str
    n: int = Field(1, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = Field(None, ge=0, lt=MAX_SEED)
    stop: Annotated[
        Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MAX_STOPS)] | None,
        BeforeValidator(_stops),
    ] = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def budget(self) -> int | None:
        """Maximum number of tokens of each answer; None: not given."""
        return None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, default: Sampling) -> Sampling:
        """The sampling that is asked for, completed by `default`.

        Raises:
            ApiError: it is not valid.
        """
        asked = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k")}
        asked["max_new_tokens"] = self.budget
        given = {name: value for name, value in asked.items() if value is not None}
        return validated(Sampling, default.model_dump() | given) if given else default


class FunctionCall(BaseModel):
    """Name and arguments of a call."""

    model_config = ConfigDict(extra="ignore")

    name: str
    arguments: str = "{}"


class CallOfMessage(BaseModel):
    """A tool call in a message."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function"] = "function"
    function: FunctionCall


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: str


class MessageOfRequest(BaseModel):
    """A message. Fields that only describe it, such as ids of calls, are ignored."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[CallOfMessage] | None = None


class ChatRequest(SamplingRequest):
    """A request of `/v1/chat/completions`."""

    messages: list[MessageOfRequest] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none"] | None = None

    @property
    def budget(self) -> int | None:
        """Maximum number of tokens of each answer; None: not given."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(SamplingRequest):
    """A request of `/v1/completions`."""

    prompt: str | list[Annotated[int, Field(ge=0, strict=True)]]
    max_tokens: int | None = Field(None, ge=1)
    logprobs: int | None = Field(None, ge=0, le=1)

    @property
    def budget(self) -> int | None:
        """Maximum number of tokens of each answer; None: not given."""
        return self.max_tokens


Model = TypeVar("Model", bound=BaseModel)
Asked = TypeVar("Asked", bound=SamplingRequest)


def read_request(kind: type[Asked], body: Any) -> Asked:
    """The request in the JSON value `body`.

    Raises:
        ApiError: it is not valid, or asks for what is not supported.
    """
    if not isinstance(body, Mapping):
        raise ApiError(f"The body is {body!r:.80}. Send a JSON object.")
    fields = {str(name): value for name, value in body.items() if name not in IGNORED}
    for name, neutral in kind.NEUTRAL.items():
        if name not in fields or name in kind.model_fields:
            continue
        value = fields.pop(name)
        if value is not None and value not in neutral:
            raise ApiError(
                f"{name} is {value!r:.80}, which this server does not support. Leave it out.",
                param=name,
                code="unsupported_parameter",
            )
    return validated(kind, fields)


def validated(kind: type[Model], fields: Mapping[str, Any]) -> Model:
    """An instance of `kind`.

    Raises:
        ApiError: a field is not valid. The message names the first one.
    """
    try:
        return kind.model_validate(fields)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise ApiError("The body is nested too deeply.") from error
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the request"
        given = "" if first["type"] == "missing" else f", got {first['input']!r:.80}"
        unknown = first["type"] == "extra_forbidden"
        raise ApiError(
            f"{place}: {first['msg']}{given}.",
            param=place,
            code="unknown_parameter" if unknown else "invalid_value",
        ) from error
