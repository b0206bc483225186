"""Runs with score centering: in one process, ahead of the updates, and where it is refused."""

from pathlib import Path
from typing import Any

import pytest

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.cli.main import main
from steadyrl.cli.train import described
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.objectives import Masking, MiniRL, ScoreCentering, Truncation
from steadyrl.policies.numerics import Numerics
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.execution import start_run
from tests.run.tiny import tiny_run

CENTERED = PolicyGradientSettings(
    objective=MiniRL(correct_mismatch=False),
    correction=ScoreCentering(candidates=5),
    prompts=4,
    group_size=4,
    mini_batches=2,
)


def losses(folder: Path, **changes: Any) -> list[float]:
    start_run(tiny_run(**{"algorithm": CENTERED, "steps": 3, **changes}), folder)
    return [row["loss"] for row in RunFolder(folder).read_metrics() if "no_signal_fraction" in row]


def test_a_run_is_the_same_in_one_process_and_in_two(tmp_path: Path) -> None:
    ahead = {"max_staleness": 1, "numerics": Numerics.FP8}
    one = losses(tmp_path / "one", engine=LocalEngineSettings(**ahead))
    assert losses(tmp_path / "two", engine=LocalEngineSettings(**ahead, overlap=True)) == one
    most = CENTERED.model_copy(update={"correction": ScoreCentering(candidates=1)})
    assert losses(tmp_path / "most", algorithm=most) != one


def test_generation_that_continues_keeps_its_candidates(tmp_path: Path) -> None:
    engine = LocalEngineSettings(overlap=True, in_flight="continue", numerics=Numerics.FP8)
    assert len(losses(tmp_path / "run", engine=engine)) == 3


def test_the_command_line_names_it_with_weights() -> None:
    options = ["--out", "runs/a", "--algorithm.correction", "score_centering"]
    options += ["--algorithm.correction.candidates", "7"]
    options += ["--algorithm.correction.weights", "masking"]
    config, _ = described(["demo", "--published", "grpo", *options])
    expected = ScoreCentering(candidates=7, weights=Masking())
    assert config.algorithm.correction == expected
    assert config.algorithm.reads_candidates == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sampling.top-p", "0.9"], "only recorded of sampling from the whole vocabulary"),
        (["--algorithm.objective", "gspo"], "'gspo' with the weights 'none' reads whole responses"),
    ],
)
def test_a_run_that_cannot_have_it_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    folder = tmp_path / "run"
    asked = ["train", "demo", "--out", str(folder), "--algorithm.correction", "score_centering"]
    assert main([*asked, *options]) == 2
    assert said in capsys.readouterr().err
    assert not folder.exists()


def test_weights_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="corrected twice"):
        PolicyGradientSettings(objective=MiniRL(), correction=ScoreCentering(weights=Truncation()))
