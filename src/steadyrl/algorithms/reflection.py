"""Reflections, and the models that write them."""

from abc import abstractmethod
from asyncio import AbstractEventLoop, Semaphore, get_running_loop
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from pydantic import Field, model_validator
from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.reflection_prompts import (
    MalformedReflectionError,
    ReflectionStyle,
    parse_lesson,
)
from steadyrl.base.variants import Variant, Variants
from steadyrl.engines.openai import OpenAIReflector, OpenAISettings, ReflectorError
from steadyrl.engines.protocol import Engine, Request, Sampling
from steadyrl.policies.response_text import response_text
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Conversation
from steadyrl.records.weight_source import WeightSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflection:
    """A reflection on an attempt.

    Example:
        Reflection(prompt=prompt, reply="<prompt>Go left.</prompt>", lesson="Go left.")
    """

    prompt: Conversation

    reply: str = ""
    """Complete text of the reflection."""

    lesson: str = ""
    """Part of the reply that guides the next attempt; empty if the reflection failed."""

    failure: str = ""
    """Reason why there is no lesson."""

    completion: Completion | None = None
    """Tokens of the policy; None if another model wrote the reply, or nothing was sampled."""

    @property
    def is_malformed(self) -> bool:
        """Whether the policy sampled a reply without a valid lesson."""
        return self.completion is not None and bool(self.failure)


@runtime_checkable
class Reflector(Protocol):
    """Writes reflections."""

    async def reflect(self, prompt: Conversation, engine: Engine, seed: int) -> Reflection:
        """Reflection given `prompt`. A failed one holds the reason."""
        ...


MakeEngine = Callable[[], Engine] | None
"""Function that makes an engine with the settings of the run."""


class ReflectionSettings(Variant):
    """Base class of reflection settings."""

    style: ReflectionStyle = ReflectionStyle.RULEBOOK
    """Format of attempts in the prompt, and of lessons in the reply."""

    @abstractmethod
    def make(self, tokenizer: PreTrainedTokenizerBase, make_engine: MakeEngine) -> Reflector | None:
        """The reflector; None: no reflections.

        Raises:
            UserError: the reflector cannot be made.
        """


class SampledReflection(ReflectionSettings):
    """Reflections sampled from a model in this process."""

    max_length: int = Field(8192, ge=1)
    """Maximum number of characters in a lesson."""

    sampling: Sampling = Sampling(temperature=0.5, top_p=0.9)
    """Sampling parameters of reflections, with the defaults of the paper's code. Attempts use the
    run's `sampling`."""


class PolicyReflection(SampledReflection):
    """Reflections by the policy itself, which is trained on them."""

    name: Literal["policy"] = "policy"

    malformed: Literal["left_out", "zero_reward"] = "left_out"
    """Training on reflections without a valid lesson or over their token budget. left_out: none, so
    the policy never learns the format. zero_reward: as members of their groups with reward 0, as if
    the second attempt had failed."""

    @model_validator(mode="after")
    def _check_temperature(self) -> "PolicyReflection":
        if self.sampling.temperature == 0:
            raise ValueError(
                "the temperature of reflections is 0: greedy decoding has no sampling "
                "probabilities to train on. Set a temperature above 0."
            )
        return self

    def make(
        self, tokenizer: PreTrainedTokenizerBase, make_engine: MakeEngine
    ) -> "PolicyReflector":
        """The policy as reflector."""
        return PolicyReflector(self, tokenizer)


class FrozenReflection(SampledReflection):
    """Reflections by the initial policy of the stage, which are not trained on.

    It has its own engine in the numerics of the run's engine, which takes the memory of two more
    models, one of them in the trainer's dtype.
    """

    name: Literal["frozen"] = "frozen"

    def make(
        self, tokenizer: PreTrainedTokenizerBase, make_engine: MakeEngine
    ) -> "FrozenReflector":
        """A reflector without weights yet."""
        assert make_engine is not None, "a frozen reflector needs an engine of its own"
        return FrozenReflector(self, tokenizer, make_engine)


class ServerReflection(ReflectionSettings, OpenAISettings):
    """Reflections by a model behind an OpenAI-compatible server, which are not trained on."""

    name: Literal["server"] = "server"

    max_length: int = Field(8192, ge=1)
    """Maximum number of characters in a lesson."""

    max_concurrency: int = Field(8, ge=1)
    """Maximum number of concurrent requests."""

    def make(
        self, tokenizer: PreTrainedTokenizerBase, make_engine: MakeEngine
    ) -> "ServerReflector":
        """Client of the server."""
        return ServerReflector(self)


class NoReflection(ReflectionSettings):
    """No reflections: second attempts read the raw record of the first and a generic sentence."""

    name: Literal["none"] = "none"

    def make(self, tokenizer: PreTrainedTokenizerBase, make_engine: MakeEngine) -> None:
        """None."""


AnyReflection = Annotated[
    ReflectionSettings,
    Variants(
        ReflectionSettings,
        "steadyrl.reflectors",
        PolicyReflection,
        FrozenReflection,
        ServerReflection,
        NoReflection,
    ),
]
"""Settings of any reflector."""


class PolicyReflector:
    """Samples reflections from the rollout engine."""

    def __init__(self, settings: SampledReflection, tokenizer: PreTrainedTokenizerBase) -> None:
        self._settings = settings
        self._tokenizer = tokenizer

    async def reflect(self, prompt: Conversation, engine: Engine, seed: int) -> Reflection:
        """Reflection given `prompt`; fails without sampling if the prompt leaves no room."""
        sampling = self._settings.sampling
        (ids,) = encode_prompts(self._tokenizer, [prompt])
        if not engine.capabilities.has_room(len(ids), sampling):
            return Reflection(prompt=prompt, failure="the record leaves no room for a reflection")
        request = Request(prompt_ids=ids, num_completions=1, seed=seed, sampling=sampling)
        (completion,) = await engine.generate(request)
        return self._read(prompt, completion)

    def _read(self, prompt: Conversation, completion: Completion) -> Reflection:
        reply = response_text(completion, self._tokenizer)
        if completion.finish_reason is FinishReason.LENGTH:
            failure = f"the reflection was not finished after {len(completion.token_ids)} tokens"
            return Reflection(prompt=prompt, reply=reply, failure=failure, completion=completion)
        settings = self._settings
        return parse_reflection(prompt, reply, settings.style, settings.max_length, completion)


class FrozenReflector:
    """Samples reflections from a frozen policy in its own engine."""

    def __init__(
        self,
        settings: FrozenReflection,
        tokenizer: PreTrainedTokenizerBase,
        make_engine: Callable[[], Engine],
    ) -> None:
        self._reflector = PolicyReflector(settings, tokenizer)
        self._make_engine = make_engine
        self._engine: Engine | None = None

    async def freeze(self, weights: WeightSource) -> None:
        """Uses these weights from now on."""
        if self._engine is None:
            self._engine = self._make_engine()
        await self._engine.sync(weights)

    async def reflect(self, prompt: Conversation, engine: Engine, seed: int) -> Reflection:
        """Reflection given `prompt`. `engine`, with the trained policy, is not used."""
        assert self._engine is not None, "no weights were frozen"
        reflection = await self._reflector.reflect(prompt, self._engine, seed)
        return replace(reflection, completion=None)


class ServerReflector:
    """Requests reflections from an OpenAI-compatible server.

    Raises:
        UserError: the environment variable of the API key is not set.
    """

    def __init__(self, settings: ServerReflection) -> None:
        self._settings = settings
        self._server = OpenAIReflector(settings)
        self._semaphores: WeakKeyDictionary[AbstractEventLoop, Semaphore] = WeakKeyDictionary()

    async def reflect(self, prompt: Conversation, engine: Engine, seed: int) -> Reflection:
        """Reflection given `prompt`, requested concurrently with others."""
        semaphore = self._semaphores.setdefault(
            get_running_loop(), Semaphore(self._settings.max_concurrency)
        )
        try:
            async with semaphore:
                reply = await self._server.complete(prompt, seed=seed)
        except ReflectorError as error:
            return Reflection(prompt=prompt, failure=str(error))
        return parse_reflection(prompt, reply, self._settings.style, self._settings.max_length)


def parse_reflection(
    prompt: Conversation,
    reply: str,
    style: ReflectionStyle,
    max_length: int,
    completion: Completion | None = None,
) -> Reflection:
    """The reflection with text `reply`, with its lesson or the reason why there is none."""
    try:
        lesson = parse_lesson(reply, style, max_length=max_length)
    except MalformedReflectionError as error:
        return Reflection(prompt=prompt, reply=reply, failure=str(error), completion=completion)
    return Reflection(prompt=prompt, reply=reply, lesson=lesson, completion=completion)
