"""The published table of real runs, from a run of a minute and from the published numbers."""

import io
import json
from pathlib import Path

import pytest
from benchmarks.real_runs import CHOICE, Options, added, configured, described, draw, table
from rich.console import Console

from steadyrl.cli.train import train_command
from steadyrl.records.run_folder import RunFolder
from tests.recipes.chat_checkpoint import write_chat_checkpoint

SMALL = (
    "--steps 1 --threads 1 --learner.device cpu --algorithm.prompts 1 --algorithm.group-size 2 "
    "--sampling.max-new-tokens 3 --evaluation.tasks 2 --evaluation.samples 1 "
    "--environment.dataset gcd --evaluation.drift always"
)


@pytest.mark.slow
def test_a_run_is_described_by_what_it_recorded(tmp_path: Path) -> None:
    write_chat_checkpoint(tmp_path / "model")
    options = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "run"), *SMALL.split()]
    train_command(["minirl", *options], Console(file=io.StringIO()))
    row = described(RunFolder(tmp_path / "run"))

    assert (row["dataset"], row["seed"], row["reference_kl"], row["steps"]) == ("gcd", 0, 0.0, 1)
    assert [step for step, _ in row["curve"]] == [step for step, _ in row["drift"]] == [0, 1]
    assert row["drift"][0][1] == 0.0
    assert len(row["answers"]) == 12
    assert len(row["samples"]) == 2
    assert all(len(sample["after"]) == 2 for sample in row["samples"])
    json.dumps(row)

    line = table([row]).splitlines()[-1]
    assert line.startswith("| `gcd` | 0 | none | 1 | 0.00 (")
    draw([row], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_each_chosen_task_is_trained_on_at_the_level_at_which_it_was_measured() -> None:
    found = json.loads(CHOICE.read_text(encoding="utf-8"))
    for dataset in found["chosen"]:
        knobs = found["datasets"][dataset]["knobs"]
        config = configured(Options(steps=7), dataset, knobs, 2, 0.1)
        assert (config.environment.dataset, config.environment.knobs) == (dataset, knobs)
        assert (config.seed, config.steps, config.algorithm.reference_kl.coefficient) == (2, 7, 0.1)


def test_runs_are_added_to_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    new = [{"run": "b", "steps": 2}, {"run": "c", "steps": 3}]
    assert added(path, new) == new
    path.write_text(json.dumps({"runs": [{"run": "a", "steps": 1}, {"run": "b", "steps": 1}]}))
    assert added(path, new) == [{"run": "a", "steps": 1}, *new]
