"""What a model reads and writes, as text."""

from dataclasses import dataclass
from typing import Literal, get_args

from steadyrl.base.text import well_formed

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One entry of a conversation, whose content is made `well_formed`.

    Example:
        Message(role="user", content="3+4-2=")

    Raises:
        ValueError: there is no such role, or the content is no text.
    """

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"role is {self.role!r}. Give one of {', '.join(get_args(Role))}.")
        if not isinstance(self.content, str):
            raise ValueError(f"the content of a message is {self.content!r:.200}. Give a text.")
        object.__setattr__(self, "content", well_formed(self.content))


Conversation = tuple[Message, ...]
"""What was said, in order."""
