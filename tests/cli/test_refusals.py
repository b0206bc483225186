"""One clear sentence with exit code 2 for what cannot be used."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config

from steadyrl.cli.interruption import Terminated
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.model_settings import SmallDense
from steadyrl.records.run_folder import RunFolder
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
            "no command 'trian'. Did you mean 'train'? The commands are train, ",
        ),
        ("train", "needs a recipe's name or a YAML file first. 'steadyrl recipes' lists them"),
        ("train --steps 3", "needs a recipe's name or a YAML file first."),
        ("train demmo", "no recipe 'demmo'. Did you mean 'demo'?"),
        (
            "train demo --engine vllm --engine.url http://127.0.0.1:9",
            r"vLLM server at http://127\.0\.0\.1:9 cannot be reached .* Start it, or correct",
        ),
        (
            "train demo --engine sglang --engine.url http://127.0.0.1:9 --sampling.top-p 0.9",
            r"SGLang server at http://127\.0\.0\.1:9 cannot be reached .* Start it, or correct eng",
        ),
        ("train xyz", "There is no recipe 'xyz'. The recipes are: demo, minirl, "),
        ("train none.yaml", "There is no configuration at none.yaml. Give a YAML file, or a"),
        (
            "train demo --steps=-1",
            "demo is not valid: steps: got -1, expected: whole number, at least 0",
        ),
        ("train demo --algorithm.group-size 1", "group_size is 1, .* Set group_size to 2 or"),
        ("train demo --routing-replay r2", "routing_replay is 'r2' with mini_batches 1: .* Use"),
        (
            "train demo --cold-start none --model ./nowhere",
            "No checkpoint folder at './nowhere'. Give an exist",
        ),
        (
            "train --resume nowhere",
            "nowhere is not a run folder. Give a folder that 'steadyrl train'",
        ),
        (
            "train --resume=nowhere",
            "nowhere is not a run folder. Give a folder that 'steadyrl train'",
        ),
        (
            "evaluate nowhere",
            "nowhere is not a run folder. Give a folder that 'steadyrl train' wrote.",
        ),
        ("report nowhere", "nowhere does not exist. Give a run folder, or the log of a run."),
        ("train demo --resume nowhere", "demo and --resume are both given. .* leave demo out."),
        ("train --resume nowhere --steps 3", "nowhere is not a run folder. Give a folder that"),
        (
            "train demo --lora.r 8",
            r"no option --lora\.r\. Use --learner\.lora\.rank\.",
        ),
        ("train demo --num_generations=8", "Use --algorithm.group-size."),
        (
            "train demo actor.optim.lr=1",
            r"'actor\.optim\.lr=1' is not an option. Options are written",
        ),
        ("evaluate", "needs the folder of a run or of a checkpoint first. 'steadyrl evaluate --h"),
        (
            "evaluate nowhere/at/all",
            "nowhere/at/all is not a run folder. Give a folder that 'steadyrl",
        ),
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
    ("arguments", "message"),
    [
        ("train demo --stepz 3", "no option --stepz. Did you mean --steps? --help shows all."),
        ("train demo --engine.numerics fp7", "engine.numerics: got 'fp7', expected: .*fp8"),
        ("train demo --published ppo", "published: got 'ppo', expected: .*rloo.* See"),
        ("train demo --steps few", "steps: got 'few', expected: whole number, at least 0"),
        (
            "train demo --published grpo --algorithm.objective.weight-cap 3",
            r"no option --algorithm.objective.weight-cap here. Use it with .*--algorithm.objective "
            r"minirl.*, or leave it out\.",
        ),
        ("report", "'steadyrl report' needs RUN. See steadyrl report --help."),
    ],
)
def test_options_that_cannot_be_read_are_refused_with_what_would_do(
    steadyrl: Steady, arguments: str, message: str
) -> None:
    assert re.search(message.replace("?", r"\?"), refusal(steadyrl(*arguments.split())))


def test_replay_of_a_dense_checkpoint_is_refused(steadyrl: Steady, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "dense")
    changes = ("--model", str(path), "--routing-replay", "r3", "--out", str(tmp_path / "run"))
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
    [
        (["--tasks", "0"], "tasks: "),
        (["--samples", "0"], "samples: "),
        (["--seed", "-1"], "--seed is -1. Give a number that is not negative."),
    ],
)
def test_an_evaluation_of_nothing_is_refused(
    steadyrl: Steady, demo: Path, asked: list[str], message: str
) -> None:
    assert message in refusal(steadyrl("evaluate", str(demo), *asked))


@pytest.mark.parametrize("command", ["evaluate", "mismatch"])
def test_measuring_what_does_not_fit_into_memory_is_refused(
    steadyrl: Steady, tmp_path: Path, command: str
) -> None:
    load_tokenizer(SmallDense()).save_pretrained(tmp_path)
    Qwen3Config(
        vocab_size=128,
        hidden_size=1 << 18,
        intermediate_size=1 << 18,
        num_hidden_layers=2,
        architectures=["Qwen3ForCausalLM"],
    ).save_pretrained(tmp_path)
    tasks = "--environment arithmetic" if command == "evaluate" else "--recipe minirl"

    found = refusal(steadyrl(command, str(tmp_path), *tasks.split()))

    assert re.match(r"Measuring 4\d\d billion parameters needs about .* for weights", found)
    assert "choose a smaller model" in found


def test_evaluating_a_run_without_checkpoint_is_refused(steadyrl: Steady, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(tiny_run()))

    message = refusal(steadyrl("evaluate", str(tmp_path)))
    assert "has no checkpoint yet. Let it run to its first one." in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("steps: [1", "bad.yaml is not YAML: "),
        ("steps: 3", "bad.yaml is not valid: environment: required. Set environment in"),
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
    ("inside", "arguments", "advice"),
    [
        ("report.write_report", ["report", "RUN"], "Run it again with: steadyrl report RUN"),
        (
            "train.start_run",
            ["train", "demo", "--out", "RUN/a b"],
            "Run it again with: steadyrl train demo --out 'RUN/a b'",
        ),
        (
            "train.resume_run",
            ["train", "--resume", "RUN"],
            "Resume with: steadyrl train --resume RUN",
        ),
    ],
)
@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_an_interruption_says_how_to_go_on(
    inside: str,
    arguments: list[str],
    advice: str,
    stop: type[BaseException],
    code: int,
    steadyrl: Steady,
    demo: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr(f"steadyrl.cli.{inside}", interrupted)
    ended, _, err = steadyrl(*(word.replace("RUN", str(demo)) for word in arguments))

    assert ended == code
    assert err.replace(str(demo), "RUN") == f"steadyrl: Interrupted. {advice}\n"


def test_an_interrupted_run_says_what_is_lost_and_is_resumed_by_what_it_says(
    steadyrl: Steady, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "my run"
    shutil.copytree(demo, path)
    shutil.rmtree(path / "checkpoints" / "rl-000002")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("steadyrl.cli.train.resume_run", interrupted)
        code, _, err = steadyrl("train", "--resume", str(path))
    assert code == 130
    lost = r"2 steps since the last checkpoint \(\d+ s\) will be repeated\."
    told = re.fullmatch(rf"steadyrl: Interrupted\. {lost} Resume with: (.*)\n", err)
    assert told is not None
    program, *words = shlex.split(told[1])
    assert program == "steadyrl"
    assert steadyrl(*words)[0] == 0
    (record,) = RunFolder(path).read_resumes()
    assert (record["checkpoint"], record["lost_steps"]) == ("cold_start-000006", 2)
    assert record["lost_seconds"] >= 0
    assert record["packages"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        (
            OSError(28, "No space left on device", "x/metrics.jsonl"),
            2,
            "steadyrl: x/metrics.jsonl: No space left on device. Fix this first. Resume with: ",
        ),
        (BrokenPipeError(), 141, "steadyrl: The output was closed. Resume with: "),
    ],
)
def test_a_fault_of_the_machine_is_told_in_one_sentence(
    fault: OSError,
    code: int,
    told: str,
    steadyrl: Steady,
    demo: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("steadyrl.cli.train.resume_run", broken)
    monkeypatch.setattr("steadyrl.cli.main._let_go_of_the_output", lambda: None)
    ended, _, err = steadyrl("train", "--resume", str(demo))
    assert (ended, err) == (code, f"{told}steadyrl train --resume {demo}\n")


def test_several_processes_of_a_launcher_are_refused(
    steadyrl: Steady, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    message = refusal(steadyrl("train", "demo", "--out", str(tmp_path / "run")))
    assert message.startswith(
        "A launcher started 4 processes (WORLD_SIZE), but a run starts its own"
    )


def test_a_run_of_another_version_is_refused_with_its_version(
    steadyrl: Steady, demo: Path, tmp_path: Path
) -> None:
    path = tmp_path / "demo"
    shutil.copytree(demo, path)
    manifest = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**manifest, "version": "7.0", "commit": None}))
    with (path / "config.yaml").open("a") as file:
        file.write("warp: 9\n")
    for command in (["train", "--resume", str(path)], ["evaluate", str(path)]):
        message = refusal(steadyrl(*command))
        assert "warp: unknown setting, got 9" in message
        assert "written by steadyrl 7.0, and this is steadyrl 0.1.0" in message
        assert "resume it with the source that wrote it, or begin a new run with" in message
