"""What a search tool finds, and how foreign text is made safe to read."""

import re
from abc import abstractmethod
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from steadyrl.base.text import well_formed
from steadyrl.base.variants import Variant

_OPENINGS = re.compile(r"<(?=[|\uff5c/_A-Za-z])|\[(?=/?[A-Z_]+\])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of text that can be found.

    Example:
        Passage(title="Rio", text="Rio lies by the sea.")
    """

    title: str
    text: str


class RetrievalError(RuntimeError):
    """No passages could be had, through no fault of the query."""


@runtime_checkable
class Retriever(Protocol):
    """Finds passages."""

    def search(self, query: str, count: int) -> list[Passage] | Awaitable[list[Passage]]:
        """At most `count` passages for `query`, best first; none when nothing matches.

        A plain method or a coroutine function: while one search waits, other episodes go on.

        Raises:
            RetrievalError: the passages cannot be reached.
        """
        ...


class RetrieverSettings(Variant):
    """Settings that make a retriever."""

    @abstractmethod
    def make(self, passages: Sequence[Passage]) -> Retriever:
        """The retriever; `passages` are the library of one that searches in memory.

        Raises:
            UserError: it cannot be made as described.
        """


def escape_control_tokens(text: str) -> str:
    """`text` in which no control token of a chat template can be read.

    A space parts the bracket from the name in `<|...|>`, `<name>`, `</name>` and `[NAME]`, with
    which the templates in use open and close turns, so that a passage cannot speak as another
    role.
    """
    return _OPENINGS.sub(r"\g<0> ", well_formed(text))
