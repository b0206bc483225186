"""A data set with odd columns, trained from the command line alone."""

import random
from pathlib import Path

import pytest

from steadyrl.records.run_folder import RunFolder
from tests.cli.tiny_demo import SIZES, Steady, options

MODEL = {name: value for name, value in SIZES.items() if name.startswith("model.")}
RUN = {
    "algorithm.prompts": 8,
    "algorithm.group-size": 8,
    "sampling.max-new-tokens": 32,
    "evaluation.tasks": 4,
    "evaluation.samples": 8,
    "steps": 2,
}
TINY = options({**MODEL, **RUN})

OWN = """
import asyncio

async def digits(completions, stufe, **columns):
    await asyncio.sleep(0)
    assert len(completions) == len(stufe)
    return [float(text.isdigit()) if level != "3" else None
            for text, level in zip(completions, stufe)]

def breaks(completions, **columns):
    if "9" in "".join(completions):
        raise KeyError("nine")
    return [0.5] * len(completions)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a table whose columns have names of their own, and a module."""
    rows = [f"{a}+{b}=;{a + b};{n % 4}" for n, (a, b) in enumerate(draws(60))]
    (tmp_path / "meine.csv").write_text("\n".join(["frage;loesung;stufe", *rows]) + "\n")
    (tmp_path / "own_rewards_of_a_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def draws(count: int) -> list[tuple[int, int]]:
    every = [(a, b) for a in range(10) for b in range(10)]
    return random.Random(0).sample(every, count)


def on_the_table(*more: str) -> list[str]:
    data = ["--environment", "dataset", "--environment.path", "meine.csv"]
    columns = ["--environment.columns", "{prompt: frage, answer: loesung}"]
    return ["train", "demo", "--cold-start", "none", *TINY, *data, *columns, *more]


@pytest.mark.slow
def test_a_table_is_trained_on_and_each_reward_recorded(steadyrl: Steady, folder: Path) -> None:
    rewards = "[exact, {name: own_rewards_of_a_test:digits, weight: 0.25}]"
    code, out, err = steadyrl(*on_the_table("--environment.rewards", rewards, "--out", "run"))

    assert (code, err) == (0, "")
    assert "held-out score" in out
    first, *_, last = RunFolder(folder / "run").read_metrics()
    assert {"score/exact", "score/digits"} <= first.keys()
    assert {"reward/exact", "reward/digits"} <= last.keys()
    (completions,) = (folder / "run" / "completions").glob("rl-*1.jsonl")
    assert '"reward_parts": {' in completions.read_text()

    code, out, err = steadyrl("train", "--resume", "run", "--steps", "3")
    assert (code, err) == (0, "")
    with (folder / "meine.csv").open("a") as table:
        table.write("1+1=;2;0\n")
    code, _, err = steadyrl("train", "--resume", "run", "--steps", "4")
    assert code == 2
    assert "environment.path (was " in err


def test_rows_that_are_left_out_are_noted(steadyrl: Steady, folder: Path) -> None:
    with (folder / "meine.csv").open("a") as table:
        table.write("1+?;;0\n")
    refused = on_the_table("--environment.rewards", "exact", "--out", "run")
    code, _, err = steadyrl(*refused)
    assert (code, (folder / "run").exists()) == (2, False)
    assert "line 62 of " in err
    assert "the column 'loesung' is empty. Correct the row, or set environment.invalid_rows" in err
    code, _, _ = steadyrl(*refused, "--environment.invalid-rows", "skip")
    notes = RunFolder(folder / "run").read_notes()
    assert code == 0
    assert any("1 of 61 rows of the dataset were dropped" in note["note"] for note in notes)


def test_a_reward_that_fails_in_the_run_is_data(steadyrl: Steady, folder: Path) -> None:
    rewards = "[exact, own_rewards_of_a_test:breaks]"
    code, _, _ = steadyrl(*on_the_table("--environment.rewards", rewards, "--out", "run"))
    rows = RunFolder(folder / "run").read_metrics()
    failed = [row["environment_failed_fraction"] for row in rows if row["step"]]
    assert code == 0
    assert any(failed)
    texts = [path.read_text() for path in (folder / "run" / "completions").glob("rl-*.jsonl")]
    assert "own_rewards_of_a_test:breaks failed: KeyError: 'nine' (" in "".join(texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--environment.path", "deine.csv"], "There is no file or folder deine.csv."),
        (["--environment.columns.prompt", "frag"], "has no column 'frag'. Did you mean 'frage'?"),
        (["--environment.rewards", "own_rewards_of_a_test:none"], "has no 'none'"),
        (["--environment.rewards", "mth"], "Did you mean 'math'?"),
        (["--environment.splits.test", "hard"], "has no split 'hard'. It has: train"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    steadyrl: Steady, folder: Path, changes: list[str], message: str
) -> None:
    arguments = on_the_table("--environment.rewards", "exact", "--out", "run", *changes)
    code, _, err = steadyrl(*arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "run").exists()
