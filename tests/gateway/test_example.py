"""The example of a tool-calling agent, in a short form and whole."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from steadyrl.environments.protocol import Split
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.execution import start_run

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("agent_tools")


def scores(folder: RunFolder) -> list[float]:
    rows = [row for row in folder.read_metrics() if row.get("stage") == "rl"]
    return [row["score"] for row in rows if "score" in row]


def test_the_splits_of_the_example_have_other_results(example: Any) -> None:
    sums = example.Sums()
    results = [
        {sums.task(split, n).payload for n in range(100)} for split in (Split.TRAIN, Split.TEST)
    ]
    assert not results[0] & results[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_agent_of_the_example_learns_to_call_its_tool(example: Any, tmp_path: Path) -> None:
    changes = {"steps": 6, "evaluate_every": 6}
    folder = start_run(example.configuration(**changes), tmp_path / "run")

    first, *_, last = scores(folder)
    assert last > first + 0.2
