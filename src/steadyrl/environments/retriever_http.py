r"""Retrieval over HTTP.

The interface is that of Search-R1 servers (github.com/PeterGriffinJin/Search-R1), which exist for
BM25, dense indices and web search:

    POST /retrieve   {"queries": ["..."], "topk": 3, "return_scores": true}
    200              {"result": [[{"document": {"contents": "Title\ntext"}, "score": 1.5}, ...]]}
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from steadyrl.base.http import ServerError, post_json
from steadyrl.environments.retrieval import Passage, RetrievalError, RetrieverSettings


class HTTPRetrieverSettings(RetrieverSettings):
    """Address of a retrieval server."""

    name: Literal["http"] = "http"

    url: str = Field("http://127.0.0.1:8000/retrieve", pattern=r"^https?://")
    """URL of the search endpoint."""

    timeout: float = Field(10.0, gt=0.0)
    """Maximum seconds per search."""

    def make(self, passages: Sequence[Passage]) -> "HTTPRetriever":
        """The retriever. The server has its own corpus."""
        return HTTPRetriever(self)


class HTTPRetriever:
    """Client of a retrieval server. Each search is one request, without retries."""

    def __init__(self, settings: HTTPRetrieverSettings) -> None:
        self.settings = settings

    async def search(self, query: str, count: int) -> list[Passage]:
        """The first `count` passages returned by the server.

        Raises:
            RetrievalError: the server cannot be reached, is too slow, or its response is malformed.
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
    """Passages of the first query in a response, best first.

    Raises:
        ValueError: the response is malformed.
    """
    match reply:
        case {"result": [[*entries], *_]}:
            return [_passage(entry) for entry in entries]
        case _:
            raise ValueError(f'expected {{"result": [[...]]}}, got {_excerpt(reply)}')


def _passage(entry: Any) -> Passage:
    """Parses a passage, with or without a score, as one text or as title and text."""
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
