"""Files of TRL itself are read: its state, its tables of texts, and what it learns from."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")
pytest.importorskip("wandb")
pytestmark = [
    pytest.mark.trl,
    pytest.mark.filterwarnings("default"),  # what TRL and its dependencies warn of is theirs
]

import wandb  # noqa: E402
from trl import GRPOTrainer  # noqa: E402

from steadyrl.analysis.dumps import Verdict, compare, pair, read_content, read_dump  # noqa: E402
from steadyrl.analysis.foreign import read_foreign_run  # noqa: E402
from steadyrl.analysis.foreign.layouts import read_log  # noqa: E402
from steadyrl.base.errors import UserError  # noqa: E402
from steadyrl.integrations.trl import MiniRLTrainer  # noqa: E402
from tests.integrations.test_trl import DENSE, OFF_POLICY, trainer_for  # noqa: E402


class SavingTrainer(MiniRLTrainer):
    """Saves each rollout as docs/compare_dumps.md says."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        tensors = {k: v for k, v in output.items() if isinstance(v, torch.Tensor)}
        torch.save(tensors, Path(self.args.output_dir) / "step.pt")
        return output


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of three steps of GRPO, with all that TRL can write."""
    folder = tmp_path_factory.mktemp("grpo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_DIR", str(folder))
        trainer = trainer_for(
            folder,
            GRPOTrainer,
            DENSE,
            save_strategy="steps",
            save_steps=3,
            log_completions=True,
            report_to=["tensorboard", "wandb"],
        )
        trainer.train()
        wandb.finish()
    return folder


def test_the_state_of_a_run_is_diagnosed(written: Path) -> None:
    run = read_foreign_run(written)
    assert run.layout == "trainer_state.json"
    assert run.trainer.name == "trl"
    assert run.diagnose().steps == 3
    assert {"reward", "entropy", "gradient_norm"} <= set(run.known)
    assert "mismatch_kl_k3" in run.missing


@pytest.mark.parametrize(
    ("pattern", "layout"),
    [("events.out.tfevents.*", "TensorBoard events"), ("*.wandb", "a W&B run")],
)
def test_trackers_hold_the_values_of_the_state(
    pattern: str, layout: str, written: Path, tmp_path: Path
) -> None:
    (file,) = written.rglob(pattern)
    alone = tmp_path / file.name
    alone.write_bytes(file.read_bytes())
    assert read_foreign_run(alone).trainer.name == "trl"
    assert read_log(alone).layout == layout
    rewards = values_in(written, "reward")
    assert len(rewards) == 3
    assert values_in(alone, "train/reward") == pytest.approx(rewards, rel=1e-6)


def values_in(path: Path, column: str) -> list[float]:
    """The values of a column of a log, in the order of its rows."""
    return [row.values[column] for row in read_log(path).rows if column in row.values]


def test_tables_of_texts_are_refused_with_what_to_save_instead(written: Path) -> None:
    table = next(written.glob("completions/*.parquet"))
    with pytest.raises(UserError, match=r"a log of texts by trl.*torch\.save"):
        read_dump(read_content(table), table.name)


def test_what_the_trainer_learns_from_is_compared(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, SavingTrainer, max_steps=1, **OFF_POLICY)
    trainer.train()
    dump = read_dump(read_content(tmp_path / "step.pt"), "step.pt")
    comparison = compare(pair(dump))
    assert dump.format == "trl"
    assert comparison.tokens == sum(int(row.mask.sum()) for row in dump.rows) > 32
    assert comparison.verdict == Verdict.TOO_FEW
    assert comparison.metrics["mismatch_kl_k3"] < 1e-9
