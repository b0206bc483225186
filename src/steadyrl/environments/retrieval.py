"""Protocol of retrievers, and sanitization of retrieved text."""

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
    """A passage of text.

    Example:
        Passage(title="Rio", text="Rio lies by the sea.")
    """

    title: str
    text: str


class RetrievalError(RuntimeError):
    """Retrieval failed, for reasons other than the query."""


@runtime_checkable
class Retriever(Protocol):
    """A search engine over passages."""

    def search(self, query: str, count: int) -> list[Passage] | Awaitable[list[Passage]]:
        """At most `count` passages that match `query`, best first.

        A plain method or a coroutine function. Other episodes continue while one search awaits.

        Raises:
            RetrievalError: the passages cannot be reached.
        """
        ...


class RetrieverSettings(Variant):
    """Settings of a retriever."""

    @abstractmethod
    def make(self, passages: Sequence[Passage]) -> Retriever:
        """The retriever. `passages` is the corpus of retrievers that search in memory.

        Raises:
            UserError: the retriever cannot be made.
        """


def escape_control_tokens(text: str) -> str:
    """`text` without readable control tokens of chat templates.

    A space is inserted after the opening bracket of `<|...|>`, `<name>`, `</name>` and `[NAME]`,
    with which templates open and close turns, so that a passage cannot speak in another role.
    """
    return _OPENINGS.sub(r"\g<0> ", well_formed(text))
