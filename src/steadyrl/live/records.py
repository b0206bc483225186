"""Records of the store: turns, what is learned from them, and generations."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from steadyrl.records.completion import Completion
from steadyrl.records.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTurn:
    """An answer with the messages before it.

    Example:
        StoredTurn(messages=(question, answer), completion=completion)
    """

    messages: tuple[Message, ...]
    """The conversation, which ends with the answer."""

    completion: Completion | None
    """Tokens of the answer and of its prompt. None: texts were redacted, so the tokens are not
    kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An answer with feedback, as a generation learns from it.

    Example:
        Example(session="a", turn=0, messages=(question, answer), completion=None, text="wrong")
    """

    session: str
    turn: int
    messages: tuple[Message, ...]
    completion: Completion | None

    reward: float | None = None
    """The last number or thumb; None: there is none."""

    text: str = ""
    """All texts: corrections, and later messages that show failure."""

    @property
    def id(self) -> str:
        """Session and turn."""
        return f"{self.session}/{self.turn}"

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the answer."""
        return self.messages[:-1]

    @property
    def prompt_key(self) -> str:
        """Equal for equal prompts."""
        return prompt_key(self.prompt)


class Verdict(StrEnum):
    """State of a generation."""

    CLAIMED = "claimed"
    """Its sessions are chosen. It is trained, or will be."""

    PROMOTED = "promoted"
    """Its policy is served, or was until a later one."""

    ROLLED_BACK = "rolled back"
    """Its policy was worse, so the one before is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One pass through the loop.

    Example:
        Generation(number=3, verdict=Verdict.CLAIMED)
    """

    number: int
    """0 is the policy that the loop began with."""

    verdict: Verdict

    policy_version: int | None = None
    """Version of the weights that are served after it; None: not decided."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    """What was measured of the policy that it trained, and of the one before as `served_...`."""


def prompt_key(prompt: Sequence[Message]) -> str:
    """Equal for equal prompts."""
    text = json.dumps([[message.role, message.content] for message in prompt])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
