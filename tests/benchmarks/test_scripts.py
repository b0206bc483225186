"""Every benchmark starts as it says: `python benchmarks/X.py`, with its own folder on the path."""

import ast
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


def imported(script: Path) -> set[str]:
    """The packages that it imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_imports_nothing_from_folders_above_it(script: Path) -> None:
    assert not imported(script) & {"benchmarks", "tests"}
