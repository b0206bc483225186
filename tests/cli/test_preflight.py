"""The command: its table, its JSON and its exit code."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from steadyrl.base.errors import UserError
from steadyrl.cli.main import main
from steadyrl.cli.preflight import preflight_command
from steadyrl.run.config import to_yaml
from steadyrl.run.execution import start_run
from tests.run.tiny import tiny_run

SHORT = ["--prompts", "3", "--samples", "4"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("configs") / "tiny.yaml"
    path.write_text(to_yaml(tiny_run()), encoding="utf-8")
    return path


def called(*arguments: str) -> tuple[int, str]:
    file = io.StringIO()
    code = preflight_command([*map(str, arguments)], Console(file=file, width=180))
    return code, file.getvalue()


def test_the_table_has_verdicts_limits_and_sources(config: Path) -> None:
    code, out = called(str(config), *SHORT)

    assert code in (0, 1)
    for text in ("KL engine to trainer (k3)", "Memory plan, GB", "a rule", "Verdict: "):
        assert text in out
    assert f"Verdict: {'unsafe' if code else ''}" in out


def test_json_holds_every_finding_and_the_plan(config: Path) -> None:
    _, out = called(str(config), *SHORT, "--json")

    found = json.loads(out)
    titles = {finding["question"]: finding for finding in found["findings"]}
    assert titles["kl"]["safe"] == 0.002
    assert found["memory"]["held"]["weights"] > 0
    assert found["settings"] == {"prompts": 3, "samples": 4}


@pytest.mark.slow
def test_the_last_checkpoint_of_a_run_is_measured(tmp_path: Path) -> None:
    start_run(tiny_run(), tmp_path / "run")

    code, out = called(str(tmp_path / "run"), *SHORT)

    assert "Measured before the cold start" not in out
    assert code in (0, 1)


def test_an_unsafe_setup_gives_exit_code_1_through_the_program(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = ["--model", "small_dense", "--model.width", "262144", "--model.mlp-width", "262144"]
    others = ["--routing-replay", "none", "--cold-start", "none"]

    assert main(["preflight", str(config), *huge, *others]) == 1
    assert "Verdict: unsafe." in capsys.readouterr().out


def test_without_a_setup_nothing_is_asked() -> None:
    with pytest.raises(UserError, match="needs a recipe, a YAML file or the folder of a run"):
        called("--json")
    with pytest.raises(UserError, match="'nope'"):
        called("nope")
