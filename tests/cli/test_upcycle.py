"""`steadyrl upcycle`: the result loads, trains with replay, and what cannot be made is refused."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3MoeForCausalLM

from steadyrl.records.run_folder import RunFolder
from tests.cli.test_refusals import refusal
from tests.cli.tiny_demo import Steady
from tests.recipes.chat_checkpoint import write_chat_checkpoint

TRAINED = (
    "--steps 1 --threads 1 --learner.device cpu --algorithm.prompts 1 "
    "--algorithm.group-size 2 --sampling.max-new-tokens 3 --evaluation.tasks 1 "
    "--evaluation.samples 1 --environment.dataset gcd --evaluation.drift never"
)


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    return write_chat_checkpoint(tmp_path / "dense")


@pytest.mark.slow
def test_it_writes_a_model_that_computes_the_same_and_trains_with_replay(
    dense: Path, tmp_path: Path, steadyrl: Steady
) -> None:
    moe = tmp_path / "moe"
    made = ("--experts", "4", "--top-k", "2", "--split", "2", "--out", str(moe))
    code, out, _ = steadyrl("upcycle", str(dense), *made)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("Qwen3ForCausalLM of 0M parameters -> Qwen3MoeForCausalLM of 0M")
    assert lines[-1] == str(moe)

    source, model = (AutoModelForCausalLM.from_pretrained(path) for path in (dense, moe))
    assert isinstance(model, Qwen3MoeForCausalLM)
    ids = AutoTokenizer.from_pretrained(moe)("3 + 4", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        difference = (model(input_ids=ids).logits - source(input_ids=ids).logits).abs().max()
    assert difference < 1e-5

    run = tmp_path / "run"
    code, _, err = steadyrl(
        *("train", "minirl", "--model", str(moe), "--out", str(run), "--routing-replay", "r3"),
        *TRAINED.split(),
    )
    assert code == 0, err
    (row,) = (row for row in RunFolder(run).read_metrics() if row["step"] == 1)
    assert "routing_disagreement" in row


def test_noise_and_seed_are_options(dense: Path, tmp_path: Path, steadyrl: Steady) -> None:
    states = []
    for seed in ("0", "1"):
        out = tmp_path / seed
        options = ("--noise", "0.1", "--seed", seed, "--dtype", "bfloat16", "--out", str(out))
        assert steadyrl("upcycle", str(dense), *options)[0] == 0
        states.append(AutoModelForCausalLM.from_pretrained(out).state_dict())
    name = "model.layers.0.mlp.experts.down_proj"
    assert states[0][name].dtype is torch.bfloat16
    assert not torch.equal(states[0][name], states[1][name])
    assert torch.equal(*(state["model.embed_tokens.weight"] for state in states))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--experts 6 --top-k 2 --split 4", "experts is 6, which is not a multiple of split 4"),
        ("--experts 1", "experts"),
        ("--split 3 --experts 6 --top-k 3", "32 inner units, which cannot be cut into 3 slices"),
        ("--revision main", "only repositories on the Hub have revisions"),
    ],
)
def test_what_cannot_be_made_leaves_nothing_behind(
    dense: Path, tmp_path: Path, steadyrl: Steady, options: str, message: str
) -> None:
    out = tmp_path / "moe"
    told = refusal(steadyrl("upcycle", str(dense), "--out", str(out), *options.split()))
    assert message in told
    assert not out.exists()


def test_what_is_there_is_not_written_over(dense: Path, steadyrl: Steady) -> None:
    told = refusal(steadyrl("upcycle", str(dense), "--out", str(dense)))
    assert "exists already. Choose another --out" in told
