"""`steadyrl study` as a user types it."""

from pathlib import Path

import pytest

from steadyrl.cli.main import main
from steadyrl.lab import command
from steadyrl.lab.catalog import DOSE_STUDIES, RULE_STUDIES, STUDIES
from steadyrl.lab.claims import Claim, greater
from steadyrl.lab.records import write_record
from steadyrl.lab.running import StudyPaths
from steadyrl.lab.study import Study
from steadyrl.policies.numerics import Numerics
from tests.lab.made_up import record, study_of

CLAIM = Claim(text="A beats B", source="here", comparisons=(greater("best_score", "A", "B"),))


def tiny_study(numerics: Numerics) -> Study:
    return study_of([CLAIM])


def test_without_a_name_studies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*STUDIES, *DOSE_STUDIES, *RULE_STUDIES]
    assert "figure4 Off-policy, N = 8, rollouts in fp8" in [
        " ".join(line.split()) for line in lines
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure9"], "Unknown study 'figure9'. Did you mean 'figure"),
        (["no_such_module:study"], "The study is 'no_such_module:study': No module named"),
        (["tests.lab.test_command:CLAIM.text"], "test_command.py has no 'CLAIM.text'. Correct"),
        (["builtins:str"], "builtins:str returns a str. Let it return a Study."),
        (["figure1", "--seeds", "0"], "--seeds is 0. Give 1 or more."),
        (["figure1", "--processes", "0"], "--processes is 0. Give 1 or more."),
        (["figure1", "--all"], "Got both --all and figure1. Remove --all, or the names."),
        (["--quick"], "Got run options but no study. Add the name of a study, or --all"),
        (["--page", "page.md"], "but no study. Add the name of a study, or --all"),
    ],
)
def test_what_cannot_be_used_is_said(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_quick_and_all_are_switches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Study] = []

    def note(studies: list[Study], *_: object, **__: object) -> None:
        asked.extend(studies)

    monkeypatch.setattr(command, "run_studies", note)
    monkeypatch.setattr(command, "STUDIES", {"tiny": tiny_study})
    monkeypatch.setattr(command, "DOSE_STUDIES", {})
    monkeypatch.setattr(command, "RULE_STUDIES", {})
    assert main(["study", "--all", "--quick", "--out", str(tmp_path), "--numerics", "int4"]) == 0
    assert [study.name for study in asked] == ["made-up-fp8-quick"]


@pytest.mark.parametrize(
    ("scores", "options", "seeds"),
    [
        ((0.3, 0.5), [], [3, 3]),  # decided: A is behind B in every seed
        ((0.5, 0.5), [], [3, 3]),  # an interval of no width is below the margin
        (None, [], [3, 5]),  # undecided, without any run on record
        (None, ["--seeds", "3"], [3]),
        (None, ["--quick"], [2]),
    ],
)
def test_an_undecided_study_goes_on_with_more_seeds(
    scores: tuple[float, float] | None,
    options: list[str],
    seeds: list[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    asked: list[int] = []

    def finish(studies: list[Study], paths: StudyPaths, **_: object) -> None:
        (study,) = studies
        asked.append(len(study.seeds))
        for condition, score in zip(study.conditions, scores or (), strict=scores is not None):
            for seed in study.seeds:
                config = condition.run(seed)
                run = record([0.5] * 20, seed=seed, scores=[(0, 0.1), (160, score)], config=config)
                write_record(run, paths.new_record(config))

    monkeypatch.setattr(command, "run_studies", finish)
    monkeypatch.setattr(command, "write_results", lambda *_: [])
    monkeypatch.setitem(command.STUDIES, "tiny", tiny_study)
    assert main(["study", "tiny", "--out", str(tmp_path), *options]) == 0
    assert asked == seeds


def test_a_study_of_doses_prints_its_borders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Study] = []
    monkeypatch.setattr(command, "run_doses", lambda study, *_, **__: asked.append(study))
    assert main(["study", "dose", "--quick", "--out", str(tmp_path)]) == 0

    text = capsys.readouterr().out
    assert [study.name for study in asked] == ["dose-float32-quick"]
    assert "routing noise: R3 loses at" in text
    assert "figure: " in text


@pytest.mark.slow
def test_a_study_runs_and_leaves_verdicts_figure_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(command.STUDIES, "tiny", tiny_study)
    page = tmp_path / "page.md"
    page.write_text("<!-- verdicts of made-up -->\n<!-- verdicts:end -->\n")
    out, work = tmp_path / "results", tmp_path / "work"
    options = ["--seeds", "1", "--out", str(out), "--work", str(work), "--page", str(page)]
    assert main(["study", "tiny", *options]) == 0

    text = capsys.readouterr().out
    assert "A beats B" in text
    assert "undecided  A beats B" in text  # of one seed
    assert "best_score: A > B: " in text
    folder = out / "made-up-fp8"
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "figure.svg",
        "results.json",
    }
    assert "| made-up | A beats B | [undecided]" in page.read_text()
