"""Messages of a conversation, as text."""

from dataclasses import dataclass
from typing import Literal, get_args

from steadyrl.base.text import well_formed

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation. Its content is passed through `well_formed`.

    Example:
        Message(role="user", content="3+4-2=")

    Raises:
        ValueError: the role is unknown, or the content is not a string.
    """

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"role is {self.role!r}. Use one of {', '.join(get_args(Role))}.")
        if not isinstance(self.content, str):
            raise ValueError(f"the content of a message is {self.content!r:.200}. Use a string.")
        object.__setattr__(self, "content", well_formed(self.content))


Conversation = tuple[Message, ...]
"""Messages in order."""
