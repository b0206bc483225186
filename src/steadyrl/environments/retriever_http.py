r"""Passages from a retrieval server.

The interface is that of Search-R1's servers (github.com/PeterGriffinJin/Search-R1), which exist
for BM25, dense indices and web search:

    POST /retrieve   {"queries": ["..."], "topk": 3, "return_scores": true}
    200              {"result": [[{"document": {"contents": "Title\ntext"}, "score": 1.5}, ...]]}
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from steadyrl.base.http import ServerError, post_json
from steadyrl.environments.retrieval import Passage, RetrievalError, RetrieverSettings


class HTTPRetrieverSettings(RetrieverSettings):
    """Where the server is."""

    name: Literal["http"] = "http"

    url: str = Field("http://127.0.0.1:8000/retrieve", pattern=r"^https?://")
    """The address that queries are posted to."""

    timeout: float = Field(10.0, gt=0.0)
    """Seconds that a whole search may take."""

    def make(self, passages: Sequence[Passage]) -> "HTTPRetriever":
        """The retriever; the server has passages of its own."""
        return HTTPRetriever(self)


class HTTPRetriever:
    """Asks a server. Each search is one request; a failed one is not repeated."""

    def __init__(self, settings: HTTPRetrieverSettings) -> None:
        self.settings = settings

    async def search(self, query: str, count: int) -> list[Passage]:
        """The first `count` passages that the server names.

        Raises:
            RetrievalError: it cannot be reached, is too slow, or answers something else.
        """
        settings = self.settings
        question = {"queries": [query], "topk": count, "return_scores": True}
        try:
            reply = await post_json(settings.url, question, timeout=settings.timeout)
            return parse_passages(reply)[:count]
        except ServerError as error:
            raise RetrievalError(f"the retriever at {settings.url} {error}") from error
        except ValueError as error:
            raise RetrievalError(
                f"the retriever at {settings.url} sent an invalid reply: {error}"
            ) from error


def parse_passages(reply: Any) -> list[Passage]:
    """The passages that a reply names for its first query, best first.

    Raises:
        ValueError: the reply has another format.
    """
    match reply:
        case {"result": [[*entries], *_]}:
            return [_passage(entry) for entry in entries]
        case _:
            raise ValueError(f'expected {{"result": [[...]]}}, got {_excerpt(reply)}')


def _passage(entry: Any) -> Passage:
    """A passage that stands alone or beside its score, as one text or as title and text."""
    match entry:
        case {"document": document}:
            return _passage(document)
        case {"contents": str(contents)}:
            title, parted, text = contents.strip().partition("\n")
            if not parted:
                return Passage(title="", text=title)
            return Passage(title=title.strip().strip('"'), text=text.strip())
        case {"title": str(title), "text": str(text)}:
            return Passage(title=title, text=text)
        case _:
            raise ValueError(f'expected a document with "contents", got {_excerpt(entry)}')


def _excerpt(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."
