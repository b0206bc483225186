"""The rule by which tasks are chosen, and the table that the documents show of it."""

import json
from pathlib import Path

from benchmarks.task_choice import Options, choose, table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "task_choice_smollm2.json"
PAGE = ROOT / "docs" / "real_models.md"
OPTIONS = Options(model="model", out=RESULTS)


def test_the_shortest_of_those_that_are_solved_sometimes_are_chosen() -> None:
    rows = {
        "long": {"pass": 0.5, "question_tokens": 90.0},
        "short": {"pass": 0.1, "question_tokens": 40.0},
        "hard": {"pass": 0.05, "question_tokens": 30.0},
        "easy": {"pass": 0.75, "question_tokens": 30.0},
        "left out": {"question_tokens": 20.0, "excluded": "its scorer can be exploited"},
        "longest": {"pass": 0.7, "question_tokens": 95.0},
        "middle": {"pass": 0.3, "question_tokens": 60.0},
    }
    assert choose(rows, OPTIONS) == ["short", "middle", "long"]


def test_the_page_shows_what_was_measured() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert found["chosen"] == choose(found["datasets"], OPTIONS)
    assert table(found["datasets"], OPTIONS) in PAGE.read_text(encoding="utf-8")
