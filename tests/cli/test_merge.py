"""A run's adapter: `steadyrl merge`, `push` and `evaluate`, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from steadyrl.run.execution import start_run
from tests.cli.fake_hub import FakeHub
from tests.cli.tiny_demo import Steady
from tests.closeness import assert_close
from tests.run.lora_runs import LAST, LORA, logits_of, trainer_of, write_run
from tests.run.tiny import tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on a checkpoint, and that checkpoint."""
    return write_run(tmp_path_factory.mktemp("lora"))


@pytest.mark.parametrize("which", ["run", "checkpoint", "adapter"])
def test_it_merges_into_a_model_that_transformers_loads(
    run: tuple[Path, Path], which: str, tmp_path: Path, steadyrl: Steady
) -> None:
    path, _ = run
    checkpoint = path / LAST
    adapter = {"run": path, "checkpoint": checkpoint, "adapter": tmp_path / "adapter"}[which]
    if which == "adapter":
        adapter.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (adapter / name).write_bytes((checkpoint / name).read_bytes())
    code, out, error = steadyrl("merge", str(adapter), "--out", str(tmp_path / "merged"))
    assert (code, error) == (0, "")
    assert out.strip() == str(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert_close(logits_of(merged), logits_of(trainer_of(path)))


def test_a_preset_is_merged_too(tmp_path: Path, steadyrl: Steady) -> None:
    path = tmp_path / "run"
    start_run(tiny_run(learner=LORA, steps=0), path)
    code, _, error = steadyrl(
        "merge", str(path), "--out", str(tmp_path / "merged"), "--dtype", "bfloat16"
    )
    assert (code, error) == (0, "")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert model.dtype == torch.bfloat16


# The client's own: it gives `data` to its HTTP library, which wants `content`.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_push_uploads_the_adapter_which_peft_loads_over_its_base(
    run: tuple[Path, Path], hub: FakeHub, tmp_path: Path, steadyrl: Steady
) -> None:
    path, base = run
    named = ("--base-model", "org/base", "--license", "apache-2.0")
    code, _, error = steadyrl("push", str(path), "--to", "me/adapter", *named)
    assert (code, error) == (0, "")
    files = hub.repositories["me/adapter"].files
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} < files.keys()
    assert "model.safetensors" not in files
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "org/base"
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes(files[name])
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path)
    assert_close(logits_of(loaded), logits_of(trainer_of(path)))


def test_it_is_evaluated_as_any_run(run: tuple[Path, Path], steadyrl: Steady) -> None:
    code, out, error = steadyrl("evaluate", str(run[0]), "--tasks", "2", "--samples", "1")
    assert code == 0, error
    assert out.startswith(f"{run[0]} (rl-000006), 2 test tasks: avg@1")


def test_what_cannot_be_merged_is_refused(
    run: tuple[Path, Path], tmp_path: Path, steadyrl: Steady
) -> None:
    out = ("--out", str(tmp_path / "merged"))
    for arguments, message in (
        (("merge", str(run[1]), *out), "has no adapter_config.json: it is not an adapter"),
        (("merge", str(run[0]), "--out", str(run[1])), "exists already. Choose another --out"),
        (("evaluate", str(run[0] / LAST)), "Merge it with 'steadyrl merge"),
    ):
        code, _, error = steadyrl(*arguments)
        assert code == 2
        assert message in error
    assert not (tmp_path / "merged").exists()
