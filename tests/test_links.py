"""Relative links and anchors of the documentation lead somewhere."""

import re
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from docs.generator.markdown import slug
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]

DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "results").glob("*/README.md"),
]


@cache
def tokens_of(document: Path) -> list[Token]:
    parser = MarkdownIt("commonmark").enable("table")
    return parser.parse(document.read_text(encoding="utf-8"))


def pieces_of(document: Path) -> list[Token]:
    """Links, images, code and HTML of a document, outside code blocks."""
    tokens = tokens_of(document)
    return [*tokens, *(child for token in tokens for child in token.children or ())]


def anchors(document: Path) -> set[str]:
    """The anchors of a document as GitHub makes them: a repeated heading is numbered."""
    tokens, seen = tokens_of(document), Counter[str]()
    found = set[str]()
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            texts = (c.content for c in inline.children or () if c.type in ("text", "code_inline"))
            anchor = slug("".join(texts))
            found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
    html = "".join(t.content for t in pieces_of(document) if t.type.startswith("html_"))
    return found | set(re.findall(r'\b(?:id|name)="([^"]+)"', html))


def links(document: Path) -> list[str]:
    """Targets of the links and images of a document that lead into the repository."""
    pieces = pieces_of(document)
    html = "".join(t.content for t in pieces if t.type.startswith("html_"))
    targets = [str(t.attrs.get("href", t.attrs.get("src", ""))) for t in pieces]
    targets += re.findall(r'\b(?:href|src)="([^"]+)"', html)
    return [each for each in targets if each and not re.match(r"[a-z]+:", each)]


def dead_links(document: Path) -> list[str]:
    """Links of a document to a file or an anchor that does not exist."""
    dead = []
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target.resolve())
        ):
            dead.append(link)
    return dead


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert dead_links(document.resolve()) == []


def test_links_to_no_heading_and_to_no_file_are_dead(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Tools: `a_b`, and *more* (1)\n\n## Twice\n\n## Twice\n\n```\n# none\n```\n\n"
        "[a](#tools-a_b-and-more-1) [b](page.md#twice-1) [c](#none) [d](other.md) ![e](no.png)\n"
        '<a href="#twice-2">f</a> [g](https://example.org/#none)\n'
    )
    assert dead_links(page) == ["#none", "other.md", "no.png", "#twice-2"]
