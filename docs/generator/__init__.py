"""Pages of the documentation that are written from the code.

python -m docs.generator            # write them
python -m docs.generator --check    # name those that are not up to date, and exit with 1
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from docs.generator.api import api_page
from docs.generator.commands import commands_page
from docs.generator.configuration import configuration_page
from docs.generator.metrics import metrics_page
from docs.generator.plans import plans_page

DOCS = Path(__file__).parents[1]

PAGES: dict[Path, Callable[[], str]] = {
    DOCS / "metrics.md": metrics_page,
    DOCS / "plans.md": plans_page,
    DOCS / "reference" / "configuration.md": configuration_page,
    DOCS / "reference" / "commands.md": commands_page,
    DOCS / "reference" / "api.md": api_page,
}
"""Where each page is, and what makes it."""


def outdated(pages: Mapping[Path, Callable[[], str]] = PAGES) -> dict[Path, str]:
    """Those of `pages` that are not what the code would make of them now, with what it would."""
    texts = {path: make() for path, make in pages.items()}
    return {
        path: text
        for path, text in texts.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
