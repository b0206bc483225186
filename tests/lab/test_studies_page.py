"""What the page about studies of one's own shows works as it stands."""

from pathlib import Path

import pytest

from steadyrl.cli.main import main
from steadyrl.lab import command
from steadyrl.lab.study import Study

PAGE = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")


def test_the_example_is_a_study_that_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = PAGE.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "my_studies.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    asked: list[Study] = []
    monkeypatch.setattr(command, "run_studies", lambda studies, **_: asked.extend(studies))
    options = ["--quick", "--numerics", "int4", "--out", str(tmp_path / "results")]
    assert main(["study", "my_studies:depth", *options]) == 0

    (study,) = asked
    assert study.name == "depth-int4-quick"
    assert [c.config.model.layers for c in study.conditions] == [3, 5]
    assert "Five layers score higher" in capsys.readouterr().out
    assert (tmp_path / "results" / "depth-int4-quick" / "results.json").exists()
