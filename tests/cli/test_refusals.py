"""One clear sentence with exit code 2 for what cannot be used."""

import re
import shutil
from pathlib import Path

import pytest

from steadyrl.run.config import to_yaml
from tests.cli.tiny_demo import SIZES, TINY, Steady, options
from tests.run.checkpoints import write_checkpoint
from tests.run.tiny import tiny_run


def refusal(result: tuple[int, str, str]) -> str:
    """The one sentence on stderr."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.startswith("steadyrl: ")
    assert err.count("\n") == 1
    return err.removeprefix("steadyrl: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "trian demo",
            "There is no command 'trian'. The commands are train, evaluate, report, recipes, ",
        ),
        ("train", "needs a recipe's name or a YAML file first. 'steadyrl recipes' lists them"),
        ("train --steps 3", "needs a recipe's name or a YAML file first."),
        ("train demmo", "no recipe 'demmo'. Did you mean 'demo'? 'steadyrl recipes' lists them"),
        ("train xyz", "There is no recipe 'xyz'. 'steadyrl recipes' lists them; a YAML file works"),
        ("train none.yaml", "There is no configuration at none.yaml. Give a YAML file, or a"),
        (
            "train demo --steps=-1",
            "demo is not valid: steps: Input should be greater than or equal",
        ),
        ("train demo --policy-gradient.group-size 1", "group_size is 1, .* Set group_size to 2 or"),
        ("train demo --routing-replay r2", "routing_replay is 'r2' with mini_batches 1: .* Use"),
        (
            "train demo --cold-start none --checkpoint ./nowhere",
            "No checkpoint folder at './nowhere'. Give an exist",
        ),
        ("train --resume nowhere", "nowhere holds no run to resume. Give a folder that"),
        ("train --resume=nowhere", "nowhere holds no run to resume. Give a folder that"),
        ("evaluate nowhere", "nowhere holds no run. Give a folder that 'steadyrl train' wrote."),
        ("evaluate nowhere --seed -1", "--seed is -1. Give a number that is not negative."),
        ("report nowhere", "nowhere is not a run folder: it has no config.yaml. Give the folder"),
        ("recipes demmo", "There is no recipe 'demmo'. Did you mean 'demo'?"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    steadyrl: Steady,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    assert re.search(message.replace("?", r"\?"), refusal(steadyrl(*arguments.split())))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ("train demo --stepz 3", ["Unrecognized options: --stepz", "--steps INT"]),
        ("train demo --engine.numerics fp7", ["'fp7' for argument '--engine.numerics'", "'fp8'"]),
        ("train demo --algorithm ppo", ["invalid choice 'ppo' for argument '--algorithm'"]),
        ("train demo --steps few", ["Error parsing --steps", "'few'"]),
        (
            "train demo --algorithm grpo --policy-gradient.objective.weight-cap 3",
            ["Unrecognized options: --policy-gradient.objective.weight-cap"],
        ),
        ("train --resume somewhere --steps 3", ["Unrecognized options: --steps"]),
        ("evaluate", ["Missing from steadyrl evaluate", "The run folder."]),
    ],
)
def test_options_that_cannot_be_read_are_refused_with_what_would_do(
    steadyrl: Steady, arguments: str, messages: list[str]
) -> None:
    code, out, err = steadyrl(*arguments.split())

    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for message in messages:
        assert message in err
    assert "--help" in err


def test_replay_of_a_dense_checkpoint_is_refused(steadyrl: Steady, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "dense")
    changes = ("--checkpoint", str(path), "--routing-replay", "r3", "--out", str(tmp_path / "run"))
    code, _, err = steadyrl("train", "demo", "--cold-start", "none", *changes)

    assert code == 2
    assert err.splitlines()[-1] == (  # Transformers draws a bar before it, for large checkpoints
        "steadyrl: routing_replay is 'r3', but Qwen3ForCausalLM is dense and has no routing. "
        "Set routing_replay to 'none'."
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_refused(steadyrl: Steady, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "run"

    message = refusal(steadyrl("train", "demo", "--out", str(out), *TINY))
    assert f"The run folder {out} cannot be written: Not a directory. Choose another" in message


def test_a_folder_with_a_run_is_refused(steadyrl: Steady, demo: Path) -> None:
    message = refusal(steadyrl("train", "demo", "--out", str(demo)))
    assert "already holds a run. Continue it with --resume" in message


@pytest.mark.parametrize("command", ["train --resume", "evaluate"])
def test_a_damaged_checkpoint_is_refused(
    steadyrl: Steady, demo: Path, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "demo"
    shutil.copytree(demo, path)
    file = path / "checkpoints" / "rl-000002" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])

    message = refusal(steadyrl(*command.split(), str(path)))
    assert "model.safetensors has changed since it was written. Remove that folder" in message


@pytest.mark.parametrize(
    ("asked", "message"),
    [(["--tasks", "0"], "tasks: Input should be greater"), (["--samples", "0"], "samples: ")],
)
def test_an_evaluation_of_nothing_is_refused(
    steadyrl: Steady, demo: Path, asked: list[str], message: str
) -> None:
    assert message in refusal(steadyrl("evaluate", str(demo), *asked))


def test_evaluating_a_run_without_checkpoint_is_refused(steadyrl: Steady, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(tiny_run()))

    message = refusal(steadyrl("evaluate", str(tmp_path)))
    assert "has no checkpoint yet. Let it run to its first one." in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("steps: [1", "bad.yaml is not YAML: "),
        ("steps: 3", "bad.yaml is not valid: environment: Field required"),
        ("[]", "bad.yaml is not valid: Input should be a valid dictionary"),
    ],
)
def test_a_malformed_yaml_file_is_refused(
    steadyrl: Steady, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "bad.yaml").write_text(content)

    assert message in refusal(steadyrl("train", str(tmp_path / "bad.yaml")))


def test_divergence_is_told_in_one_sentence(steadyrl: Steady, tmp_path: Path) -> None:
    sizes = options(SIZES | {"cold-start.optimizer.learning-rate": 1e38})
    code, _, err = steadyrl("train", "demo", *sizes, "--out", str(tmp_path / "run"))
    remedy = r"Set a lower learning_rate .* in the run's config\.yaml and resume it\."

    assert code == 2
    assert re.fullmatch(rf"steadyrl: At step \d, .* is not finite\..* {remedy}\n", err)


@pytest.mark.parametrize(
    ("inside", "arguments", "again"),
    [
        ("report.write_report", ["report", "RUN"], "report RUN"),
        ("train.start_run", ["train", "demo", "--out", "RUN/other"], "train --resume RUN"),
    ],
)
def test_an_interruption_says_how_to_go_on(
    inside: str,
    arguments: list[str],
    again: str,
    steadyrl: Steady,
    demo: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"steadyrl.cli.{inside}", interrupted)
    code, _, err = steadyrl(*(word.replace("RUN", str(demo)) for word in arguments))

    assert code == 130
    assert err.replace("\n", "").replace(str(demo), "RUN").endswith(f"Go on with: steadyrl {again}")
