"""Files that verl's own functions write are read: its logs, its dumps of texts, and its batches."""

from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("verl")
pytestmark = [
    pytest.mark.verl,
    pytest.mark.filterwarnings("default"),  # what verl and its dependencies warn of is theirs
]

import warnings  # noqa: E402

with warnings.catch_warnings(action="ignore"):  # of Ray, at its import
    from verl import DataProto
from verl.utils.debug.metrics import calculate_debug_metrics  # noqa: E402
from verl.utils.tracking import Tracking  # noqa: E402

from steadyrl.analysis.dumps import compare, pair, read_content, read_dump  # noqa: E402
from steadyrl.analysis.foreign import read_foreign_run  # noqa: E402
from steadyrl.base.errors import UserError  # noqa: E402

PROMPT, RESPONSE, ROWS = 4, 24, 8


def batch_of(seed: int) -> DataProto:
    """A batch as verl's trainer has it after old_log_probs: padded, and masked."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(RESPONSE // 2, RESPONSE + 1, (ROWS, 1), generator=generator)
    held = (torch.arange(RESPONSE) < lengths).long()
    attention = torch.cat([torch.ones(ROWS, PROMPT, dtype=torch.long), held], dim=1)
    attention[0, 0] = 0
    logprobs = -torch.rand(ROWS, RESPONSE, generator=generator) * 2 * held
    noise = 0.01 * torch.randn(ROWS, RESPONSE, generator=generator) * held
    return DataProto.from_single_dict(
        {
            "prompts": torch.randint(3, 90, (ROWS, PROMPT), generator=generator),
            "responses": torch.randint(3, 90, (ROWS, RESPONSE), generator=generator) * held,
            "attention_mask": attention,
            "response_mask": held,
            "rollout_log_probs": logprobs + noise,
            "old_log_probs": logprobs,
            "token_level_scores": torch.rand(ROWS, RESPONSE, generator=generator) * held,
        }
    )


def metrics_of(step: int) -> dict[str, Any]:
    """What verl's trainer logs of a step: its own discrepancy, and values of other parts."""
    return {
        **calculate_debug_metrics(batch_of(step)),
        "critic/score/mean": 0.1 * step,
        "actor/entropy": 1.0 - 0.05 * step,
        "actor/grad_norm": 0.5,
        "actor/ppo_kl": 1e-4,
        "training/global_step": step,
    }


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, into which verl writes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("backend", ["console", "file"])
def test_a_log_of_its_tracker_is_read(backend: str, in_folder: Path) -> None:
    console = in_folder / "train.log"
    with console.open("w") as file, redirect_stdout(file):
        tracking = Tracking("project", "run", default_backend=[backend])
        for step in range(1, 4):
            tracking.log(metrics_of(step), step=step)
        tracking.finish()
    found = {
        "console": console,
        "file": in_folder / "project" / "run.jsonl",
    }
    run = read_foreign_run(found[backend])
    assert run.trainer.name == "verl"
    assert run.diagnose().steps == 3
    assert run.known["mismatch_kl_k3"] == "training/rollout_probs_diff_mean"
    assert {"reward", "entropy", "gradient_norm", "staleness_kl_k3"} <= set(run.known)


def test_the_tensors_of_its_batch_are_compared(tmp_path: Path) -> None:
    batch = batch_of(0)
    path = tmp_path / "step.pt"
    torch.save(dict(batch.batch), path)
    dump = read_dump(read_content(path), path.name)
    comparison = compare(pair(dump))
    held = batch.batch["response_mask"].bool()
    assert dump.format == "verl"
    assert comparison.tokens == int(held.sum())
    theirs = calculate_debug_metrics(batch)["training/rollout_probs_diff_mean"]
    ours = torch.cat([torch.from_numpy(row.rollout_logprobs[row.mask]) for row in dump.rows]).exp()
    old = torch.cat([torch.from_numpy(row.trainer_logprobs[row.mask]) for row in dump.rows]).exp()
    assert float((ours - old).abs().mean()) == pytest.approx(theirs, rel=1e-5)


def test_a_batch_saved_as_an_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "batch.pt"
    batch_of(0).save_to_disk(path)
    with pytest.raises(UserError, match="save a dictionary of tensors"):
        read_content(path)
