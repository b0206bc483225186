"""Reflections: who writes them, and what comes of them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from transformers import PreTrainedTokenizerBase

from steadyrl.algorithms.reflection_prompts import (
    MalformedReflectionError,
    ReflectionStyle,
    lesson_in,
)
from steadyrl.algorithms.reflection_settings import (
    HeldReflection,
    SampledReflection,
    ServerReflection,
)
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.openai import OpenAIReflector, ReflectorError
from steadyrl.engines.protocol import Request, RolloutEngine, has_room, sync_weights
from steadyrl.policies.tokenizers import encode_prompts
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Conversation
from steadyrl.records.weight_source import WeightSource
from steadyrl.rollout.episodes import response_text
from steadyrl.rollout.seeds import derive_seed


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

    def reflect(
        self, prompts: Sequence[Conversation], engine: RolloutEngine, seed: int
    ) -> list[Reflection]:
        """A reflection for each of `prompts`, in order. One that fails says why."""
        ...


class PolicyReflector:
    """The policy, by way of the rollout engine."""

    def __init__(self, settings: SampledReflection, tokenizer: PreTrainedTokenizerBase) -> None:
        self._settings = settings
        self._tokenizer = tokenizer

    def reflect(
        self, prompts: Sequence[Conversation], engine: RolloutEngine, seed: int
    ) -> list[Reflection]:
        """A reflection for each of `prompts`. One whose prompt leaves no room is not asked for."""
        sampling = self._settings.sampling
        encoded = encode_prompts(self._tokenizer, prompts)
        limit = engine.max_positions
        asked = [n for n, ids in enumerate(encoded) if has_room(limit, len(ids), sampling)]
        requests = [
            Request(prompt_ids=encoded[n], num_completions=1, seed=derive_seed(seed, n))
            for n in asked
        ]
        written = dict(zip(asked, engine.generate(requests, sampling), strict=True))
        return [
            self._read(prompt, written[number][0])
            if number in written
            else Reflection(prompt=prompt, failure="the record leaves no room to reflect on it")
            for number, prompt in enumerate(prompts)
        ]

    def _read(self, prompt: Conversation, completion: Completion) -> Reflection:
        reply = response_text(completion, self._tokenizer)
        if completion.finish_reason is FinishReason.LENGTH:
            failure = f"the reflection was not over after {len(completion.token_ids)} tokens"
            return Reflection(prompt=prompt, reply=reply, failure=failure, completion=completion)
        settings = self._settings
        return reflection_of(prompt, reply, settings.style, settings.longest, completion)


class HeldReflector:
    """A policy that is not trained, in an engine of its own."""

    def __init__(
        self,
        settings: HeldReflection,
        tokenizer: PreTrainedTokenizerBase,
        make_engine: Callable[[], RolloutEngine],
    ) -> None:
        self._reflector = PolicyReflector(settings, tokenizer)
        self._make_engine = make_engine
        self._engine: RolloutEngine | None = None

    def hold(self, weights: WeightSource) -> None:
        """Reflects with these weights from now on."""
        if self._engine is None:
            self._engine = self._make_engine()
        sync_weights(self._engine, weights)

    def reflect(
        self, prompts: Sequence[Conversation], engine: RolloutEngine, seed: int
    ) -> list[Reflection]:
        """A reflection for each of `prompts`; `engine`, with the trained policy, is not asked."""
        assert self._engine is not None, "no policy is held"
        reflections = self._reflector.reflect(prompts, self._engine, seed)
        return [replace(reflection, completion=None) for reflection in reflections]


class ServerReflector:
    """A model behind an OpenAI-compatible server.

    Raises:
        UserError: the variable that is to hold the server's key is not set.
    """

    def __init__(self, settings: ServerReflection, progress: Progress = NO_PROGRESS) -> None:
        self._settings = settings
        self._progress = progress
        self._server = OpenAIReflector(settings)

    def reflect(
        self, prompts: Sequence[Conversation], engine: RolloutEngine, seed: int
    ) -> list[Reflection]:
        """A reflection for each of `prompts`, several asked for at once."""
        seeds = [derive_seed(seed, number) for number in range(len(prompts))]
        with ThreadPoolExecutor(self._settings.at_once) as pool:
            written: list[Reflection] = []
            for reflection in pool.map(self._ask, prompts, seeds):
                written.append(reflection)
                self._progress.advance("answers", len(written), len(prompts))
            return written

    def _ask(self, prompt: Conversation, seed: int) -> Reflection:
        try:
            reply = self._server.complete(prompt, seed=seed)
        except ReflectorError as error:
            return Reflection(prompt=prompt, failure=str(error))
        return reflection_of(prompt, reply, self._settings.style, self._settings.longest)


def reflection_of(
    prompt: Conversation,
    reply: str,
    style: ReflectionStyle,
    longest: int,
    completion: Completion | None = None,
) -> Reflection:
    """The reflection that `reply` is, with its lesson or the reason why there is none."""
    try:
        lesson = lesson_in(reply, style, longest=longest)
    except MalformedReflectionError as error:
        return Reflection(prompt=prompt, reply=reply, failure=str(error), completion=completion)
    return Reflection(prompt=prompt, reply=reply, lesson=lesson, completion=completion)
