"""Sessions: the calls of one agent, as exact trajectories.

A later call whose messages extend an earlier conversation continues the tokens of that
conversation. Calls that follow each other in this way share a row. Otherwise a new row begins, for
one of these reasons:

    edited              an earlier message, or an answer of the model, was changed
    shortened           the history was compacted: fewer messages, of which the first are the same
    branched            another answer at a place that has one already, also for n > 1
    tools_changed       the same messages with other tools
    other_conversation  the messages have nothing in common with earlier ones, as of a sub-agent
    raw_prompt          a call of /v1/completions
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from steadyrl.engines.protocol import Sampling
from steadyrl.gateway.conversation import ChatMessage, Conversation
from steadyrl.gateway.errors import ApiError
from steadyrl.records.completion import Completion
from steadyrl.records.message import Message

RAW_PROMPT = "raw_prompt"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """A recorded call: a conversation and one answer to it."""

    conversation: Conversation | None
    """None: a raw prompt."""

    reply: ChatMessage
    completion: Completion

    messages: tuple[Message, ...]
    """The conversation as text, with the answer."""

    @property
    def history(self) -> tuple[ChatMessage, ...]:
        """The messages with the answer."""
        before = () if self.conversation is None else self.conversation.messages
        return (*before, self.reply)

    @property
    def num_messages(self) -> int:
        """Length of `history`."""
        return 1 if self.conversation is None else len(self.conversation.messages) + 1

    @property
    def num_tokens(self) -> int:
        """Length of `tokens`."""
        return len(self.completion.prompt_ids) + len(self.completion.token_ids)

    @property
    def tokens(self) -> Int[Tensor, " T"]:
        """Prompt and answer."""
        return torch.cat([self.completion.prompt_ids, self.completion.token_ids])

    def is_continued_by(self, conversation: Conversation) -> bool:
        """Whether `conversation` has all messages of this turn, and more."""
        own = self.conversation
        if own is None or len(conversation.messages) < self.num_messages:
            return False
        return own.tools_key == conversation.tools_key and _begins_with(
            conversation.messages, self.history
        )


@dataclass(slots=True, kw_only=True)
class SessionRules:
    """What a session may ask for.

    Example:
        SessionRules(sampling=Sampling(max_new_tokens=256))
    """

    sampling: Sampling
    """Sampling of requests that do not choose their own."""

    trains: bool = False
    """Whether the tokens are trained on. Requests must then sample as `sampling` does."""

    max_calls: int | None = None
    """Maximum number of calls; None: no limit."""

    pinned: bool = False
    """Whether all tokens of a session must be of one policy version. Calls after a sync, or during
    one, are then refused; otherwise the session goes on with the new version of each token."""

    seed_of: Callable[[int], int] | None = None
    """Seed of each call by its number; None: from the request, or random."""


@dataclass(slots=True, kw_only=True)
class Session:
    """The recorded calls of one agent."""

    id: str
    rules: SessionRules
    rows: list[list[Turn]] = field(default_factory=list)
    """Turns whose tokens extend each other, in the order in which rows began."""

    new_rows: Counter[str] = field(default_factory=Counter)
    """Number of rows that began after the first, by reason."""

    reward: float | None = None
    """Reward that was posted."""

    calls: int = 0
    """Number of calls that were begun."""

    ran_out: str = ""
    """Why calls were refused: no calls left, or no room for an answer."""

    consent: bool | None = None
    """Whether the user agreed that the session is trained on; None: not asked."""

    closed: bool = False
    written: dict[ChatMessage, str] = field(default_factory=dict)
    """Text of each answer as the model wrote it."""

    responses: dict[str, tuple[ChatMessage, ...]] = field(default_factory=dict)
    """Conversations, without instructions, by the id of the response that ends them."""

    @property
    def turns(self) -> list[Turn]:
        """All recorded turns, row after row."""
        return [turn for row in self.rows for turn in row]

    @property
    def num_tokens(self) -> int:
        """Number of recorded tokens, those of shared prompts once for each row."""
        return sum(row[-1].num_tokens for row in self.rows)

    def begin_call(self) -> int:
        """Number of a new call.

        Raises:
            ApiError: there are no calls left, or the session is over.
        """
        self.require_open()
        limit = self.rules.max_calls
        if limit is not None and self.calls >= limit:
            self.ran_out = f"not over after {limit} calls"
            raise ApiError(
                f"The session has used its {limit} calls. Raise algorithm.max_turns, or end "
                "episodes earlier.",
                code="calls_exhausted",
            )
        self.calls += 1
        return self.calls - 1

    def require_version(self, *versions: int) -> None:
        """Returns if the session may have tokens of these versions of the policy.

        Raises:
            ApiError: the session is pinned to another version.
        """
        if not self.rules.pinned:
            return
        sampled = [turn.completion.policy_version for row in self.rows[:1] for turn in row[:1]]
        known = {*sampled, *versions}
        if len(known) > 1:
            raise ApiError(
                f"The session {self.id!r} is pinned to one version of the policy, which has "
                f"changed from {min(known)} to {max(known)}. Begin another session.",
                status=409,
                code="policy_changed",
            )

    def require_open(self) -> None:
        """Returns if the session is not over.

        Raises:
            ApiError: it is.
        """
        if self.closed:
            raise ApiError(f"The session {self.id!r} is over.", status=404, code="session_over")

    def find(self, conversation: Conversation) -> Turn | None:
        """The turn with the longest history that `conversation` continues; None: there is none.

        Of equal ones, the first that no other turn continues.
        """
        tips = {id(row[-1]) for row in self.rows}
        by_length = sorted(
            self.turns, key=lambda turn: (turn.num_messages, id(turn) in tips), reverse=True
        )
        return next((turn for turn in by_length if turn.is_continued_by(conversation)), None)

    def record(self, turn: Turn, parent: Turn | None, *, raw_text: str) -> None:
        """Adds a turn.

        Args:
            parent: The turn whose tokens it continues.
            raw_text: Text of the answer as the model wrote it.
        """
        if self.closed:
            return
        row = next((row for row in self.rows if row[-1] is parent), None)
        if row is None:
            if self.rows:
                self.new_rows[self._reason(turn)] += 1
            row = []
            self.rows.append(row)
        row.append(turn)
        self.written[turn.reply] = raw_text

    def _reason(self, turn: Turn) -> str:
        """Why a turn begins a new row."""
        conversation = turn.conversation
        if conversation is None:
            return RAW_PROMPT
        others = [other for other in self.turns if other.conversation is not None]
        if any(
            other.is_continued_by(conversation) or other.conversation == conversation
            for other in others
        ):
            return "branched"
        messages = conversation.messages
        nearest = max(
            (other.history for other in others),
            key=lambda history: (_shared(messages, history), len(history)),
            default=(),
        )
        shared = _shared(messages, nearest)
        if shared == 0 or (shared == 1 and messages[0].role == "system"):
            return "other_conversation"
        if _begins_with(messages, nearest) or _begins_with(nearest, messages):
            return "tools_changed"
        return "shortened" if len(messages) < len(nearest) else "edited"


def _begins_with(messages: tuple[ChatMessage, ...], beginning: tuple[ChatMessage, ...]) -> bool:
    return len(messages) > len(beginning) and messages[: len(beginning)] == beginning


def _shared(messages: tuple[ChatMessage, ...], others: tuple[ChatMessage, ...]) -> int:
    """Number of equal messages at the beginning."""
    pairs = enumerate(zip(messages, others, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(messages), len(others)))


def rows_as_json(session: Session) -> Mapping[str, object]:
    """Everything that is recorded of a session."""
    return {
        "id": session.id,
        "reward": session.reward,
        "calls": session.calls,
        "new_rows": dict(session.new_rows),
        "rows": [_row_as_json(row) for row in session.rows],
    }


def _row_as_json(row: list[Turn]) -> Mapping[str, object]:
    """Tokens of a row with one entry per token; prompts have no log-probability or version."""
    tokens: list[int] = []
    logprobs: list[float | None] = []
    versions: list[int | None] = []
    for turn in row:
        completion = turn.completion
        prompt = completion.prompt_ids.tolist()[len(tokens) :]
        answer = completion.token_ids.tolist()
        tokens += prompt + answer
        logprobs += [None] * len(prompt) + completion.logprobs.tolist()
        versions += [None] * len(prompt) + completion.token_versions.tolist()
    return {
        "token_ids": tokens,
        "logprobs": logprobs,
        "policy_versions": versions,
        "sampled": [version is not None for version in versions],
        "routed": all(turn.completion.routing is not None for turn in row),
        "finish_reasons": [str(turn.completion.finish_reason) for turn in row],
        "messages": [{"role": m.role, "content": m.content} for m in row[-1].messages],
    }
