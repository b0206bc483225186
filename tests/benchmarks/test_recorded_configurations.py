"""Records get the configuration that the code of their commit made."""

import json
from pathlib import Path

import pytest
from benchmarks.recorded_configurations import Options, main, runs_at

from benchmarks import recorded_configurations


def history(at: dict[str, dict[str, dict[str, float]]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits `a` then `b`, whose studies have these runs."""
    following = {"a": ["a", "b"], "b": ["b"]}
    monkeypatch.setattr(recorded_configurations, "later_commits", following.__getitem__)
    monkeypatch.setattr(recorded_configurations, "runs_at", lambda commit, _seeds: at[commit])


def test_a_record_gets_what_its_own_commit_or_the_next_that_has_it_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, commit in (("x", "a"), ("y", "a"), ("z", "b"), ("unknown", "b")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"digest": name, "commit": commit}))
    runs = {"a": {"x": {"rate": 1.0}}, "b": {"x": {"rate": 2.0}, "y": {"clip": float("inf")}}}
    runs["b"]["z"] = {"rate": 3.0}
    history(runs, monkeypatch)
    main(Options(records=tmp_path))

    kept = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert kept["x"] == {"digest": "x", "commit": "a", "configuration": {"rate": 1.0}, "changes": 0}
    assert kept["y"]["configuration"] == {"clip": "inf"}
    assert kept["z"]["configuration"] == {"rate": 3.0}
    assert kept["unknown"] == {"digest": "unknown", "commit": "b"}
    assert "unknown is in no study of this commit" in capsys.readouterr().out
    main(Options(records=tmp_path))
    assert "4 records, 1 to look up" in capsys.readouterr().out


def test_code_that_does_not_run_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # An archive without any source: its studies cannot be imported, and the reason is printed.
    monkeypatch.setattr(recorded_configurations, "git", lambda *_: b"\0" * 10240)
    monkeypatch.setattr(recorded_configurations, "LIST_RUNS", "import no_such_module_here")
    assert runs_at("abc", 1) == {}
    assert "No module named 'no_such_module_here'" in capsys.readouterr().out
