"""Reflections: who writes them, and what comes of them."""

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
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Conversation
from steadyrl.records.weight_source import WeightSource
from steadyrl.rollout.episodes import response_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflection:
    """What was written after an attempt.

    Example:
        Reflection(prompt=prompt, reply="<prompt>Go left.</prompt>", lesson="Go left.")
    """

    prompt: Conversation

    reply: str = ""
    """All that was written."""

    lesson: str = ""
    """The part of it that guides the next attempt; empty when it failed."""

    failure: str = ""
    """Why there is no lesson."""

    completion: Completion | None = None
    """The reply as tokens of the policy; None when another model wrote it, or nothing was."""

    @property
    def is_malformed(self) -> bool:
        """Whether the policy has written something in which there is no lesson."""
        return self.completion is not None and bool(self.failure)


@runtime_checkable
class Reflector(Protocol):
    """Writes reflections."""

    async def reflect(self, prompt: Conversation, engine: Engine, seed: int) -> Reflection:
        """A reflection after `prompt`. One that fails says why."""
        ...


MakeEngine = Callable[[], Engine] | None
"""Makes an engine of the run's kind."""


class ReflectionSettings(Variant):
    """Who reflects on a failed attempt, and in what form."""

    style: ReflectionStyle = ReflectionStyle.RULEBOOK
    """In what form attempts are told and lessons drawn."""

    @abstractmethod
    def make(self, tokenizer: PreTrainedTokenizerBase, make_engine: MakeEngine) -> Reflector | None:
        """The reflector; None where nobody reflects.

        Raises:
            UserError: it cannot be made as described.
        """


class SampledReflection(ReflectionSettings):
    """How a model of this process reflects."""

    max_length: int = Field(8192, ge=1)
    """Characters that a lesson may have."""

    sampling: Sampling = Sampling(temperature=0.5, top_p=0.9)
    """How reflections are drawn; attempts are drawn as the run's `sampling` says. The values are
    those of the paper's code."""


class PolicyReflection(SampledReflection):
    """The policy itself, which is trained on its reflections."""

    name: Literal["policy"] = "policy"

    malformed: Literal["left_out", "zero_reward"] = "left_out"
    """What is learned from a reflection in which no lesson can be read, or that is not over within
    its budget. left_out: nothing, so that a policy is never told of the form. zero_reward: it
    stands in its group with reward 0, as if its second attempt had failed."""

    @model_validator(mode="after")
    def _check_temperature(self) -> "PolicyReflection":
        if self.sampling.temperature == 0:
            raise ValueError(
                "the temperature of reflections is 0: a policy that draws nothing has no "
                "probabilities to learn from. Set a temperature above 0."
            )
        return self

    def make(
        self, tokenizer: PreTrainedTokenizerBase, make_engine: MakeEngine
    ) -> "PolicyReflector":
        """The policy."""
        return PolicyReflector(self, tokenizer)


class FrozenReflection(SampledReflection):
    """The policy as it was when the stage began. Its reflections are used and not trained on.

    It has an engine of its own, in the numerics of the run's: memory of two more models, one of
    them in the trainer's type.
    """

    name: Literal["held"] = "held"

    def make(
        self, tokenizer: PreTrainedTokenizerBase, make_engine: MakeEngine
    ) -> "FrozenReflector":
        """A reflector that holds no policy yet."""
        assert make_engine is not None, "a held reflector needs an engine of its own"
        return FrozenReflector(self, tokenizer, make_engine)


class ServerReflection(ReflectionSettings, OpenAISettings):
    """A model behind an OpenAI-compatible server. Its reflections are used and not trained on."""

    name: Literal["server"] = "server"

    max_length: int = Field(8192, ge=1)
    """Characters that a lesson may have."""

    max_concurrency: int = Field(8, ge=1)
    """Requests that are under way at the same time."""

    def make(
        self, tokenizer: PreTrainedTokenizerBase, make_engine: MakeEngine
    ) -> "ServerReflector":
        """A client of the server."""
        return ServerReflector(self)


class NoReflection(ReflectionSettings):
    """Nobody: second attempts read the raw record of the first and one generic sentence."""

    name: Literal["none"] = "none"

    def make(self, tokenizer: PreTrainedTokenizerBase, make_engine: MakeEngine) -> None:
        """Nobody."""


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
    """The policy, by way of the rollout engine."""

    def __init__(self, settings: SampledReflection, tokenizer: PreTrainedTokenizerBase) -> None:
        self._settings = settings
        self._tokenizer = tokenizer

    async def reflect(self, prompt: Conversation, engine: Engine, seed: int) -> Reflection:
        """A reflection after `prompt`. None is asked for where the prompt leaves no room."""
        sampling = self._settings.sampling
        (ids,) = encode_prompts(self._tokenizer, [prompt])
        if not engine.capabilities.has_room(len(ids), sampling):
            return Reflection(prompt=prompt, failure="the record leaves no room to reflect on it")
        request = Request(prompt_ids=ids, num_completions=1, seed=seed, sampling=sampling)
        (completion,) = await engine.generate(request)
        return self._read(prompt, completion)

    def _read(self, prompt: Conversation, completion: Completion) -> Reflection:
        reply = response_text(completion, self._tokenizer)
        if completion.finish_reason is FinishReason.LENGTH:
            failure = f"the reflection was not over after {len(completion.token_ids)} tokens"
            return Reflection(prompt=prompt, reply=reply, failure=failure, completion=completion)
        settings = self._settings
        return parse_reflection(prompt, reply, settings.style, settings.max_length, completion)


class FrozenReflector:
    """A policy that is not trained, in an engine of its own."""

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
        """Reflects with these weights from now on."""
        if self._engine is None:
            self._engine = self._make_engine()
        await self._engine.sync(weights)

    async def reflect(self, prompt: Conversation, engine: Engine, seed: int) -> Reflection:
        """A reflection after `prompt`; `engine`, with the trained policy, is not asked."""
        assert self._engine is not None, "no policy is held"
        reflection = await self._reflector.reflect(prompt, self._engine, seed)
        return replace(reflection, completion=None)


class ServerReflector:
    """A model behind an OpenAI-compatible server.

    Raises:
        UserError: the variable that is to freeze the server's key is not set.
    """

    def __init__(self, settings: ServerReflection) -> None:
        self._settings = settings
        self._server = OpenAIReflector(settings)
        self._semaphores: WeakKeyDictionary[AbstractEventLoop, Semaphore] = WeakKeyDictionary()

    async def reflect(self, prompt: Conversation, engine: Engine, seed: int) -> Reflection:
        """A reflection after `prompt`, asked for beside a few others."""
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
    """The reflection that `reply` is, with its lesson or the reason why there is none."""
    try:
        lesson = parse_lesson(reply, style, max_length=max_length)
    except MalformedReflectionError as error:
        return Reflection(prompt=prompt, reply=reply, failure=str(error), completion=completion)
    return Reflection(prompt=prompt, reply=reply, lesson=lesson, completion=completion)
