"""`steadyrl compare-dumps`, from files to sentences."""

import json
from pathlib import Path

import pytest
from dump_writers import WRITERS

from steadyrl.cli.main import main
from tests.analysis.dump_samples import drawn


def test_the_cause_and_the_remedy_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, trainer = WRITERS["slime"](drawn(0, temperature=0.7), tmp_path)
    assert main(["compare-dumps", str(engine), str(trainer)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "rollout.pt and train.pt: fault" in output
    assert "cause: temperature mismatch" in output
    assert "change: Divide the trainer's logits by the sampling temperature" in output
    assert "tokens with the largest log-ratios" in output


def test_the_example_of_the_documents_is_a_temperature(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(__file__).parents[2] / "examples" / "dumps"
    assert main(["compare-dumps", str(folder / "engine.jsonl"), str(folder / "trainer.jsonl")]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "48 rows, 402 tokens cause: temperature mismatch" in output
    assert (
        "100% of the mismatch: the engine's probabilities are the trainer's at 0.699 times"
        in output
    )


def test_the_same_is_printed_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = WRITERS["nemo-rl"](drawn(0, noise=0.05), tmp_path)
    assert main(["compare-dumps", str(path), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["format"] == "nemo-rl"
    assert values["verdict"] == "sound"
    assert values["metrics"]["mismatch_kl_k3"] > 0


def test_a_dump_of_one_side_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine, _ = WRITERS["verl"](drawn(0), tmp_path)
    assert main(["compare-dumps", str(engine)]) == 2
    assert "no log-probabilities of the trainer" in capsys.readouterr().err


def test_an_unknown_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = WRITERS["trl"](drawn(0), tmp_path)
    assert main(["compare-dumps", str(path), "--format", "areal"]) == 2
    assert "Choose auto or one of verl, slime, trl" in capsys.readouterr().err
