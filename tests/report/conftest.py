"""Run folders to report on, and a reader for the page."""

from collections.abc import Callable, Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from steadyrl.records.run_folder import RunFolder

Row = Mapping[str, Any]


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def values_of(self, *names: str) -> list[str]:
        return [
            value
            for _, attributes in self.tags
            for name, value in attributes.items()
            if name in names and value is not None
        ]


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunFolder]:
    """Writes a run folder that holds the given metrics."""

    def make(rows: Iterable[Row], name: str = "arithmetic-seed0") -> RunFolder:
        path = tmp_path / name
        path.mkdir()
        folder = RunFolder(path)
        folder.config.write_text("algorithm:\n  clip_high: 0.27\n", encoding="utf-8")
        for row in rows:
            folder.append_metrics(row)
        return folder

    return make


@pytest.fixture
def read_page() -> Callable[[Path], Page]:
    """Parses a page and checks that every element is closed."""

    def read(path: Path) -> Page:
        page = Page(path.read_text(encoding="utf-8"))
        assert page.open == []
        return page

    return read
