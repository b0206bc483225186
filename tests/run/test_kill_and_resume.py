"""A run that is killed again and again ends with the same bits as one that is not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steadyrl.records.run_folder import RunFolder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILLS = 10


@pytest.fixture(scope="module", params=["reference_kl", "overlap", "experiential"])
def runs(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of all runs, and what each kill left."""
    folder = tmp_path_factory.mktemp("runs")
    return folder, kill_often(request.param, folder)


def kill_often(name: str, folder: Path) -> list[dict[str, Any]]:
    """What each kill of runs of a configuration left."""
    program = [sys.executable, "-m", "tests.run.kill_and_resume"]
    done = subprocess.run(
        [*program, name, str(folder), str(KILLS), "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kills: list[dict[str, Any]] = json.loads(done.stdout)["kills"]
    return kills


def killed(folder: Path) -> list[Path]:
    return sorted(folder.glob("killed-*"))


def without_times(folder: Path) -> list[dict[str, Any]]:
    rows = RunFolder(folder).read_metrics()
    timed = ("seconds", "_per_second")
    return [{k: v for k, v in row.items() if not k.endswith(timed)} for row in rows]


def test_kills_hit_runs_in_their_course_and_while_a_checkpoint_is_written(
    runs: tuple[Path, list[dict[str, Any]]],
) -> None:
    _, kills = runs

    assert len(kills) == KILLS + 2
    assert len({kill["rows"] for kill in kills}) > 3
    assert all(any("draft" in name for name in kill["checkpoints"]) for kill in kills[-2:])


def test_killed_runs_end_with_the_weights_and_optimiser_state_of_the_undisturbed(
    runs: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, _ = runs
    for name in ("model.safetensors", "trainer_state.safetensors"):
        place = Path("checkpoints") / "rl-000006" / name
        expected = (folder / "undisturbed" / place).read_bytes()
        for run in killed(folder):
            assert (run / place).read_bytes() == expected


def test_killed_runs_are_held_to_the_reference_of_the_undisturbed(
    runs: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, _ = runs
    place = Path("references") / "rl"
    if not (folder / "undisturbed" / place).exists():
        pytest.skip("this run has no reference")
    expected = (folder / "undisturbed" / place / "weights.safetensors").read_bytes()
    assert any(row.get("reference_kl", 0) > 0 for row in without_times(folder / "undisturbed"))
    for run in killed(folder):
        assert (run / place / "weights.safetensors").read_bytes() == expected


def test_killed_runs_record_the_metrics_of_the_undisturbed_once_each(
    runs: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, _ = runs
    expected = without_times(folder / "undisturbed")

    assert len(expected) == 6 + 1 + 6
    assert any(row.get("gradient_norm", 0) > 0 for row in expected[7:])
    for run in killed(folder):
        assert without_times(run) == expected


def test_killed_runs_record_the_episodes_of_the_undisturbed(
    runs: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, _ = runs

    def episodes(run: Path) -> dict[str, str]:
        return {path.name: path.read_text() for path in (run / "completions").glob("*.jsonl")}

    expected = episodes(folder / "undisturbed")
    assert "rl-000006.jsonl" in expected
    for run in killed(folder):
        assert episodes(run) == expected


def test_a_finished_run_holds_its_newest_checkpoints_and_nothing_half_written(
    runs: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, _ = runs
    for run in (folder / "undisturbed", *killed(folder)):
        left = {path.name for path in (run / "checkpoints").iterdir()}
        # A kill may come after the last checkpoint was written and before old ones were dropped.
        assert left >= {"rl-000004", "rl-000006"}
        assert not [name for name in left if name.endswith(".draft")]


def tasks_of(run: Path) -> list[set[str]]:
    """Tasks that each step of reinforcement learned from."""
    return [
        {json.loads(line)["task_id"] for line in path.read_text().splitlines()}
        for path in sorted((run / "completions").glob("rl-*.jsonl"))
    ]


def test_killed_continuous_runs_learn_from_the_tasks_of_each_step_once(tmp_path: Path) -> None:
    """They are not repeated to the bit: what is sampled depends on when weights arrive."""
    kills = kill_often("continuous", tmp_path)

    assert len(kills) == KILLS + 2
    expected = tasks_of(tmp_path / "undisturbed")
    assert len(expected) == 6
    for run in killed(tmp_path):
        assert tasks_of(run) == expected
        rows = [(row["stage"], row["step"]) for row in without_times(run)]
        assert rows == [
            (row["stage"], row["step"]) for row in without_times(tmp_path / "undisturbed")
        ]
