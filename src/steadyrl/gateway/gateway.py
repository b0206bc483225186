"""The gateway: requests for messages become requests for tokens, which sessions record."""

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import (
    Engine,
    Request,
    SampledToken,
    Sampling,
    SupportsTokenStreams,
)
from steadyrl.gateway.answers import Answer, make_answer
from steadyrl.gateway.conversation import ChatMessage, Conversation, plain_messages
from steadyrl.gateway.errors import ApiError
from steadyrl.gateway.live_answers import LiveAnswers
from steadyrl.gateway.recording import SessionRecorder
from steadyrl.gateway.requests import CompletionRequest, SamplingRequest
from steadyrl.gateway.sessions import Session, SessionRules, Turn
from steadyrl.gateway.stop_strings import StopStrings
from steadyrl.gateway.training_rules import check_training
from steadyrl.policies.continuations import continue_tokens
from steadyrl.policies.tokenizers import encode_prompts, plain_ids
from steadyrl.records.completion import Completion
from steadyrl.records.message import Message
from steadyrl.records.tool_calls import ToolSettings, with_tools

MAX_CHOICES = 128


@dataclass(slots=True, kw_only=True)
class Gateway:
    """Answers requests with the policy of an engine.

    All methods must be called in the event loop that steps the engine.
    """

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    vocabulary_size: int
    model: str
    """Name of the model in the API."""

    rules: SessionRules = field(default_factory=lambda: SessionRules(sampling=Sampling()))
    """Rules of requests outside of sessions, and of sessions that clients open."""

    tools: ToolSettings = field(default_factory=ToolSettings)
    sessions: dict[str, Session] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    """Numbers of tokens for the metrics."""

    recorder: SessionRecorder | None = None
    """Stores turns before they are answered; None: they are held in memory only."""

    on_failure: Callable[[Exception], None] = lambda error: None
    """Receives exceptions of the engine, which are not a mistake of an agent."""

    def live_answers(
        self, request: SamplingRequest, conversation: Conversation | None = None
    ) -> LiveAnswers:
        """Takes the answers to a request while they are sampled."""
        return LiveAnswers(
            self.tokenizer,
            request.n,
            stops=request.stop or (),
            tools=None if conversation is None else self._tools_of(conversation),
        )

    async def converse(
        self,
        session: Session | None,
        request: SamplingRequest,
        conversation: Conversation,
        live: LiveAnswers | None = None,
    ) -> list[Answer]:
        """Answers to a conversation, in the order of their random numbers.

        Args:
            session: Records the call; None: nothing is recorded.
            live: Receives tokens as they are sampled, if the engine reports them.

        Raises:
            ApiError: the request cannot be served.
        """
        self._check(session, request)
        parent = None if session is None else session.find(conversation)
        written = {} if session is None else session.written
        try:
            prompt, messages = self._prompt(conversation, parent, written)
        except UserError as error:
            raise ApiError(str(error), param="messages", code="template_error") from error
        answers = await self._generate(
            session, request, prompt, live, tools=self._tools_of(conversation)
        )
        if session is not None:
            self._record(session, answers, conversation, messages, parent)
        return answers

    async def complete(
        self,
        session: Session | None,
        request: CompletionRequest,
        live: LiveAnswers | None = None,
    ) -> list[Answer]:
        """Continuations of a raw prompt: tokens, or text whose control tokens are split.

        Args:
            live: Receives tokens as they are sampled, if the engine reports them.

        Raises:
            ApiError: the request cannot be served.
        """
        self._check(session, request)
        prompt = self._raw_prompt(request.prompt)
        answers = await self._generate(session, request, prompt, live, tools=None)
        if session is not None:
            text = self.tokenizer.decode(prompt, skip_special_tokens=False)
            self._record(session, answers, None, [Message(role="user", content=text)], None)
        return answers

    def _record(
        self,
        session: Session,
        answers: Sequence[Answer],
        conversation: Conversation | None,
        messages: Sequence[Message],
        parent: Turn | None,
    ) -> None:
        """Records the answers to `messages` in the session, and in the store if there is one.

        Raises:
            ApiError: the store cannot be written. The answers are then not sent.
        """
        turns = [
            Turn(
                conversation=conversation,
                reply=answer.reply,
                completion=answer.completion,
                messages=(*messages, Message(role="assistant", content=answer.text)),
            )
            for answer in answers
        ]
        if self.recorder is not None and not session.closed:
            try:
                self.recorder.record(session, turns, parent)
            except UserError as error:
                raise ApiError(str(error), status=503, code="store_unavailable") from error
        for turn, answer in zip(turns, answers, strict=True):
            session.record(turn, parent, raw_text=answer.text)

    def _prompt(
        self, conversation: Conversation, parent: Turn | None, written: dict[ChatMessage, str]
    ) -> tuple[Int[Tensor, " P"], list[Message]]:
        """Prompt tokens and the messages as text.

        Raises:
            UserError: the chat template rejects them.
        """
        messages = plain_messages(conversation.messages, written, self.tools)
        shown, tools = with_tools(messages, conversation.tools, self.tools)
        if parent is None:
            (prompt,) = encode_prompts(self.tokenizer, [shown], [tools])
            return prompt, shown
        after = len(conversation.messages) - len(parent.history)
        split = len(shown) - after
        prompt = continue_tokens(
            self.tokenizer, parent.tokens, shown[: split - 1], shown[split:], tools
        )
        return prompt, shown

    def _raw_prompt(self, prompt: str | list[int]) -> Int[Tensor, " P"]:
        """Tokens of a raw prompt.

        Raises:
            ApiError: it is empty or has a token that the model does not know.
        """
        if isinstance(prompt, str):
            return plain_ids(self.tokenizer, prompt)
        if prompt and max(prompt) >= self.vocabulary_size:
            raise ApiError(
                f"The prompt has the token {max(prompt)}, but the vocabulary has "
                f"{self.vocabulary_size}.",
                param="prompt",
            )
        return torch.tensor(prompt, dtype=torch.long)

    def _check(self, session: Session | None, request: SamplingRequest) -> None:
        """Returns if the request may be served.

        Raises:
            ApiError: the model is another, or training forbids the sampling.
        """
        if request.model != self.model:
            raise ApiError(
                f"The model {request.model!r} does not exist. This server has {self.model!r}.",
                status=404,
                param="model",
                code="model_not_found",
            )
        if request.n > MAX_CHOICES:
            raise ApiError(f"n is {request.n}. Use at most {MAX_CHOICES}.", param="n")
        if session is not None and session.rules.trains:
            check_training(session.rules.sampling, request)

    async def _generate(
        self,
        session: Session | None,
        request: SamplingRequest,
        prompt: Int[Tensor, " P"],
        live: LiveAnswers | None,
        *,
        tools: ToolSettings | None,
    ) -> list[Answer]:
        rules = self.rules if session is None else session.rules
        if session is not None:
            session.require_open()
            session.require_version(self.engine.policy_version)
        sampling = self._room(session, request, rules, len(prompt))
        call = 0 if session is None else session.begin_call()
        if rules.seed_of is not None:
            seed = rules.seed_of(call)
        else:
            seed = secrets.randbits(63) if request.seed is None else request.seed
        asked = Request(prompt_ids=prompt, num_completions=request.n, seed=seed, sampling=sampling)
        try:
            completions = await self._sample(asked, live, request.stop or ())
        except Exception as error:
            self.on_failure(error)
            raise
        if session is not None:
            session.require_version(*(v for c in completions for v in c.token_versions.tolist()))
        self.counts["prompt_tokens"] += len(prompt)
        self.counts["completion_tokens"] += sum(len(c.token_ids) for c in completions)
        stops = request.stop or ()
        answers = [make_answer(c, self.tokenizer, stops=stops, tools=tools) for c in completions]
        if live is not None:
            live.check(answers)
        return answers

    async def _sample(
        self, request: Request, live: LiveAnswers | None, stops: Sequence[str]
    ) -> list[Completion]:
        engine = self.engine
        if live is None and not stops:
            return await engine.generate(request)
        if not isinstance(engine, SupportsTokenStreams) or not engine.streams_tokens:
            return await engine.generate(request)
        found = StopStrings(self.tokenizer, stops) if stops else None

        def listen(token: SampledToken) -> bool:
            if live is not None:
                live.listen(token)
            return found is not None and found.end_with(token)

        return await engine.stream(request, listen)

    def _tools_of(self, conversation: Conversation) -> ToolSettings | None:
        """How calls in answers to a conversation are read; None: they are not."""
        return self.tools if conversation.tools else None

    def _room(
        self, session: Session | None, request: SamplingRequest, rules: SessionRules, length: int
    ) -> Sampling:
        """The sampling of a request. A budget that it does not give shrinks to the room left.

        Raises:
            ApiError: prompt and budget exceed the engine's positions, or the prompt is empty.
        """
        sampling = request.sampling(rules.sampling)
        limit = self.engine.capabilities.max_positions
        if limit is not None and request.budget is None and not rules.trains:
            left = max(1, min(sampling.max_new_tokens, limit - length))
            sampling = sampling.model_copy(update={"max_new_tokens": left})
        try:
            self.engine.capabilities.check_room(length, sampling)
        except UserError as error:
            if session is not None and length:
                session.ran_out = f"conversation of {length} tokens leaves no room to answer"
            raise ApiError(str(error), param="messages", code="context_length_exceeded") from error
        return sampling
