"""MiniRL of a pretrained model: one step on a tiny one, and what is left when that has gone."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType
from rich.console import Console

from steadyrl.cli.evaluate import evaluate_command
from steadyrl.cli.train import train_command
from steadyrl.recipes import RECIPES
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.execution import resume_run
from tests.policies.gguf_writer import small_llama, write_gguf
from tests.recipes.chat_checkpoint import write_chat_checkpoint

SMALL = (
    "--steps 1 --threads 1 --learner.device cpu --algorithm.prompts 1 "
    "--algorithm.group-size 2 --sampling.max-new-tokens 3 --evaluation.tasks 1 "
    "--evaluation.samples 1 --environment.dataset gcd"
)


def test_it_is_the_paper_s_objective_and_mini_batch() -> None:
    settings = RECIPES["minirl"]().algorithm
    assert (settings.objective.name, settings.advantage) == ("minirl", "group_mean")
    assert (settings.prompts, settings.group_size) == (64, 16)


def write_gguf_file(path: Path) -> Path:
    return write_gguf(path, small_llama(), GGMLQuantizationType.Q8_0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write"), [("model", write_chat_checkpoint), ("model.gguf", write_gguf_file)]
)
def test_a_run_outlives_the_checkpoint_it_began_with(
    name: str, write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    train_command(
        ["minirl", "--model", f"./{name}", "--out", "run", *SMALL.split()],
        Console(file=io.StringIO()),
    )
    rows = RunFolder(tmp_path / "run").read_metrics()
    assert [row["step"] for row in rows] == [0, 1]

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said = io.StringIO()
    evaluate_command([str(tmp_path / "run"), "--tasks", "1"], Console(file=said))
    (tmp_path / name).rename(tmp_path / "moved")
    said_without = io.StringIO()
    evaluate_command([str(tmp_path / "run"), "--tasks", "1"], Console(file=said_without))
    assert said_without.getvalue() == said.getvalue()
    assert "(rl-000001), 1 test tasks" in said.getvalue()
    assert resume_run(tmp_path / "run").read_metrics() == rows
