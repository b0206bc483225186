"""Records of runs as one table."""

import json
from pathlib import Path

import duckdb
import pytest

from steadyrl.base.errors import UserError
from steadyrl.cli.main import main
from steadyrl.lab.measures import MEASURES
from steadyrl.lab.parquet import flattened, one_type, write_parquet
from steadyrl.lab.records import read_record

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Results of two conditions of one study, with the records of their runs."""
    content = json.loads((RESULTS / "figure1-fp8" / "results.json").read_text())
    kept = dict(list(content["conditions"].items())[:2])
    (tmp_path / "runs").mkdir()
    (tmp_path / "figure1-fp8").mkdir()
    (tmp_path / "figure1-fp8" / "results.json").write_text(
        json.dumps({**content, "conditions": kept})
    )
    for run in (run for runs in kept.values() for run in runs):
        name = f"{run['run']}.json"
        (tmp_path / "runs" / name).write_text((RESULTS / "runs" / name).read_text())
    return tmp_path


def test_another_reader_finds_what_the_records_say(few: Path) -> None:
    file = few / "all.parquet"
    number = write_parquet(few, file)
    records = {r.digest: r for r in map(read_record, (few / "runs").glob("*.json"))}
    rows = duckdb.sql(
        'select digest, seed, machine, studies, "config.optimizer.learning_rate", '
        '"measure.best_score", scores, "curve.reward", configuration '
        f"from '{file}'"
    ).fetchall()

    assert number == len(rows) == len(records)
    for digest, seed, machine, studies, rate, best, scores, curve, configuration in rows:
        record = records[digest]
        assert (seed, machine) == (record.seed, record.machine)
        assert studies[0].startswith("figure1-fp8/")
        assert rate == record.config.optimizer.learning_rate
        assert best == MEASURES["best_score"](record)
        assert [(s["gradient_steps"], s["score"]) for s in scores] == record.scores
        assert curve == record.curves["reward"]
        assert json.loads(configuration) == record.config.model_dump(mode="json")


def test_a_column_has_one_type() -> None:
    assert one_type([1, None, 2]) == [1, None, 2]
    assert one_type([1, 0.5, None]) == [1.0, 0.5, None]
    assert one_type([True, 3]) == ["true", "3"]
    assert one_type(["auto", 5]) == ["auto", "5"]
    assert one_type([[0.9, 0.95], [0.9, 0.99]]) == ["[0.9, 0.95]", "[0.9, 0.99]"]


def test_settings_are_named_by_their_paths() -> None:
    settings = {"seed": 1, "optimizer": {"betas": [0.9, 0.95], "inner": {"lr": 0.1}}}

    assert dict(flattened(settings)) == {
        "seed": 1,
        "optimizer.betas": [0.9, 0.95],
        "optimizer.inner.lr": 0.1,
    }


def test_the_command_writes_the_file_and_says_how_many_runs(
    few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["study", "--out", str(few), "--parquet", str(few / "a.parquet")])

    assert code == 0
    assert capsys.readouterr().out == f"10 runs: {few / 'a.parquet'}\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.csv", "Give a file that ends in .parquet."), ("a.parquet", "There are no records")],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_parquet(tmp_path, tmp_path / name)

    assert list(tmp_path.iterdir()) == []


def test_options_of_runs_without_a_study_stay_refused(
    few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "--quick", "--parquet", str(few / "a.parquet")]) == 2
    assert "Got run options but no study." in capsys.readouterr().err
    assert not (few / "a.parquet").exists()
