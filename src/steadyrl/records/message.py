"""What a model reads and writes, as text."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One entry of a conversation.

    Example:
        Message(role="user", content="3+4-2=")
    """

    role: Role
    content: str
