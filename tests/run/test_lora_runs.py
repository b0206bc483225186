"""Runs that train an adapter: from the check at the start to a model that other programs load."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from steadyrl.base.errors import UserError
from steadyrl.engines.canary import CanarySettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.policies.lora import LoraSettings
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.execution import resume_run, start_run
from tests.run.lora_runs import LORA, logits_of, trainer_of, write_run
from tests.run.tiny import tiny_run

ROOT = Path(__file__).parents[2]
KILLS = 3


def without_times(folder: Path) -> list[dict[str, Any]]:
    timed = ("seconds", "_per_second")
    rows = RunFolder(folder).read_metrics()
    return [{k: v for k, v in row.items() if not k.endswith(timed)} for row in rows]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on a checkpoint, and that checkpoint."""
    return write_run(tmp_path_factory.mktemp("lora"))


def test_it_notes_that_the_adapter_is_applied(run: tuple[Path, Path]) -> None:
    notes = [json.loads(line)["note"] for line in (run[0] / "notes.jsonl").read_text().splitlines()]
    (note,) = [each for each in notes if each.startswith("LoRA trains")]
    assert "the engine agreed with it to" in note


def test_it_learns_and_samples_what_it_learns(run: tuple[Path, Path]) -> None:
    rows = [row for row in RunFolder(run[0]).read_metrics() if row["stage"] == "cold_start"]
    assert rows[-1]["loss"] < rows[1]["loss"] - 0.05


def test_peft_loads_the_last_checkpoint_onto_the_base(run: tuple[Path, Path]) -> None:
    path, base = run
    checkpoint = path / "checkpoints" / "rl-000006"
    assert json.loads((checkpoint / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    before = logits_of(model)
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        model = PeftModel.from_pretrained(model, checkpoint)
    assert torch.equal(logits_of(model), logits_of(trainer_of(path)))
    assert float((logits_of(model) - before).abs().max()) > 1e-2


def test_an_adapter_that_the_model_cannot_have_leaves_no_run(tmp_path: Path) -> None:
    learner = LocalLearnerSettings(lora=LoraSettings(targets="query"))
    with pytest.raises(UserError, match="names 'query', but Qwen3MoeForCausalLM has no linear"):
        start_run(tiny_run(learner=learner), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_canary_cannot_learn_the_rounding_of_an_adapter_that_grows() -> None:
    learner = LocalLearnerSettings(lora=LoraSettings(), dtype="bfloat16")
    with pytest.raises(ValidationError, match=r"rounds merged weights, .* canary.every to 0"):
        tiny_run(learner=learner, canary=CanarySettings(every=1))


@pytest.mark.slow
def test_a_run_that_overlaps_takes_the_same_steps_after_a_resume(tmp_path: Path) -> None:
    engine = tiny_run().engine.model_copy(update={"overlap": True})
    config = tiny_run(learner=LORA, engine=engine)
    start_run(config, tmp_path / "whole")
    start_run(config.model_copy(update={"steps": 4}), tmp_path / "cut")
    resume_run(tmp_path / "cut", config=config)
    assert without_times(tmp_path / "cut")[-1] == without_times(tmp_path / "whole")[-1]


@pytest.mark.slow
def test_killed_runs_end_with_the_bits_of_the_undisturbed(tmp_path: Path) -> None:
    arguments = ["lora", str(tmp_path), str(KILLS), "0"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.run.kill_and_resume", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["kills"]) == KILLS + 2
    expected = tmp_path / "undisturbed"
    rows = [row for row in without_times(expected) if row["stage"] == "cold_start"]
    assert all(row["gradient_norm"] > 0 for row in rows if row["step"] > 0)
    kept = (
        Path("checkpoints") / "rl-000006" / "adapter_model.safetensors",
        Path("checkpoints") / "rl-000006" / "trainer_state.safetensors",
        Path("references") / "rl" / "weights.safetensors",
    )
    for killed in sorted(tmp_path.glob("killed-*")):
        assert without_times(killed) == without_times(expected)
        for place in kept:
            assert (killed / place).read_bytes() == (expected / place).read_bytes()
