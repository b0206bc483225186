"""The command end to end, on a run of a few seconds."""

import io
import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from steadyrl.base.errors import UserError
from steadyrl.cli.mismatch import chosen_checkpoints, mismatch_command
from steadyrl.policies.model_settings import SmallDense
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import to_yaml
from steadyrl.run.execution import start_run
from tests.closeness import tolerance
from tests.run.tiny import tiny_run

ASKED = ["--tasks", "6", "--samples", "3"]
KEPT = [Path("cold_start-000006"), Path("rl-000004"), Path("rl-000006")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on an FP8 engine, with an update for each of two mini-batches a step."""
    path = tmp_path_factory.mktemp("runs") / "run"
    start_run(tiny_run(), path)
    return path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may write to."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def mismatch(run: Path, *options: str) -> tuple[str, dict]:
    """What is printed, and what is written."""
    file = io.StringIO()
    mismatch_command([str(run), *ASKED, *options], Console(file=file, width=100))
    return file.getvalue(), json.loads((run / "mismatch.json").read_text())


def test_the_last_two_checkpoints_are_compared_in_a_table_and_a_file(run: Path) -> None:
    (run / "checkpoints" / "notes.txt").write_text("no checkpoint")
    out, found = mismatch(run)

    assert f"fp8 engine with the weights of rl-000004, {found['tokens']} tokens.\n" in out
    assert "pi_theta has the weights of rl-000006, 4 updates later.\n" in out
    assert f"numbers: {run / 'mismatch.json'}\n" in out
    places = {"from": "rl-000004", "to": "rl-000006", "updates": 4, "numerics": "fp8", "seed": 0}
    assert {name: found[name] for name in places} == places
    steps = ["decoding", "numerics", "routing", "weights", "stale_routing"]
    assert list(found["orders"]["routes_last"]) == steps
    for order in found["orders"].values():
        assert sum(step["share"] for step in order.values()) == pytest.approx(1)
        assert sum(step["kl_k1"] for step in order.values()) == pytest.approx(
            found["whole"]["kl_k1"]
        )


def test_the_table_shows_the_numbers_of_the_file(run: Path) -> None:
    out, found = mismatch(run)
    rows = [line.split() for line in out.splitlines()]
    weights = [row for row in rows if row[:1] == ["weights"]]

    for row, order in zip(weights, ("routes_last", "routes_first"), strict=True):
        change = found["orders"][order]["weights"]
        assert row[1:] == [
            f"{change['share']:.1%}",
            f"{change['variance']:.1e}",
            f"{change['kl_k1']:.1e}",
            f"{change['kl_k3']:.1e}",
            f"{change['extreme_token_fraction']:.2%}",
            f"{change['ess']:.3f}",
        ]
    assert [row[:3] for row in rows if row[:1] == ["whole"]][1:] == [
        ["whole", "under", "R2"],
        ["whole", "under", "R3"],
    ]
    (layer,) = found["flips"]["stale_routing"]
    (shown,) = [row for row in rows if row[:2] == ["pi_old,", "pi_theta"]]
    assert shown[2:4] == ["0", f"{layer['share']:.2%}"]


def test_the_same_seed_finds_the_same_and_another_samples_anew(run: Path) -> None:
    first, again, other = (mismatch(run, "--seed", seed)[1] for seed in ("3", "3", "4"))

    assert first["orders"] == again["orders"]
    assert first["orders"] != other["orders"]


def test_numerics_may_be_other_than_the_run_s(run: Path) -> None:
    out, found = mismatch(run, "--numerics", "float32")

    assert out.startswith("float32 engine with the weights of rl-000004")
    # Half the square of the roundings of log-probabilities below 8 nats.
    assert found["orders"]["routes_last"]["numerics"]["kl_k3"] <= tolerance(8.0) ** 2 / 2
    assert found["orders"]["routes_last"]["weights"]["kl_k3"] > 1e-6
    assert [layer["share"] for layer in found["flips"]["routing"]] == [0]
    (shown,) = [line.split() for line in out.splitlines() if "engine, pi_old" in line]
    kept = found["flips"]["routing"][0]["margins_kept"][1]
    assert shown[2:] == ["0", "0.00%", "-", f"{kept:.3f}", "-"]


def test_checkpoints_may_be_named(run: Path) -> None:
    out, found = mismatch(run, "--from", "cold_start-000006", "--to", "rl-000004")

    assert "pi_theta has the weights of rl-000004, 8 updates later.\n" in out
    assert (found["from"], found["to"]) == ("cold_start-000006", "rl-000004")


def test_staleness_is_absent_where_only_one_checkpoint_is_kept(run: Path) -> None:
    for name in ("cold_start-000006", "rl-000004"):
        shutil.rmtree(run / "checkpoints" / name)
    out, found = mismatch(run)

    assert (
        "No staleness: pi_theta has the weights of rl-000006 too. Checkpoints kept: "
        "rl-000006.\n" in out
    )
    assert list(found["orders"]["routes_last"]) == ["decoding", "numerics", "routing"]
    assert list(found["flips"]) == ["routing"]
    assert found["updates"] == 0


def test_routing_is_absent_where_the_model_is_dense(tmp_path: Path) -> None:
    dense = SmallDense(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, mlp_width=16)
    start_run(tiny_run(model=dense, routing_replay=RoutingReplay.NONE), tmp_path / "run")
    out, found = mismatch(tmp_path / "run")

    assert "No routing: the model has no routers whose choices can be replayed.\n" in out
    assert "expert choices" not in out
    assert list(found["orders"]) == ["routes_last"]
    assert list(found["orders"]["routes_last"]) == ["decoding", "numerics", "weights"]


# Checkpoints.


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, None, (1, 2)),
        (None, "rl-000004", (0, 1)),
        ("cold_start-000006", None, (0, 2)),
        ("rl-000006", None, (2, 2)),
        (None, "cold_start-000006", (0, 0)),
    ],
)
def test_the_earlier_checkpoint_is_the_one_before_unless_it_is_named(
    old: str | None, new: str | None, expected: tuple[int, int]
) -> None:
    assert chosen_checkpoints(KEPT, old, new) == (KEPT[expected[0]], KEPT[expected[1]])


def test_a_checkpoint_that_is_not_kept_is_refused_with_those_that_are() -> None:
    kept = r"Choose one of cold_start-000006, rl-000004, rl-000006\."
    with pytest.raises(UserError, match=rf"--from is 'rl-000002', which is not kept\. {kept}"):
        chosen_checkpoints(KEPT, "rl-000002", None)
    with pytest.raises(UserError, match=rf"--to is 'last', which is not kept\. {kept}"):
        chosen_checkpoints(KEPT, None, "last")


def test_weights_are_not_stale_against_earlier_ones() -> None:
    with pytest.raises(UserError, match=r"--from rl-000006 is later than --to rl-000004\. Swap"):
        chosen_checkpoints(KEPT, "rl-000006", "rl-000004")


# What cannot be used.


def test_what_is_not_a_run_is_refused(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    with pytest.raises(
        UserError, match=r"is not a run folder\. Give a folder that 'steadyrl train'"
    ):
        mismatch_command([str(tmp_path)], console)
    with pytest.raises(UserError, match=r"--seed is -1\. Give a number that is not negative\."):
        mismatch_command([str(tmp_path), "--seed", "-1"], console)
    (tmp_path / "config.yaml").write_text(to_yaml(tiny_run()))
    with pytest.raises(UserError, match=r"has no checkpoint yet\. Let it run to its first one\."):
        mismatch_command([str(tmp_path)], console)


def test_a_sample_of_nothing_is_refused(run: Path) -> None:
    with pytest.raises(ValidationError, match=r"tasks\n  Input should be greater"):
        mismatch(run, "--tasks", "0")
    assert not (run / "mismatch.json").exists()


def test_a_checkpoint_by_itself_is_measured_on_the_tasks_of_a_recipe(
    run: Path, tmp_path: Path
) -> None:
    checkpoint, recipe = tmp_path / "model", tmp_path / "recipe.yaml"
    shutil.copytree(run / "checkpoints" / "rl-000006", checkpoint)
    recipe.write_text(to_yaml(tiny_run()))
    asked = [*ASKED, "--recipe", str(recipe), "--out", str(tmp_path / "found.json")]
    file = io.StringIO()
    mismatch_command([str(checkpoint), *asked], Console(file=file, width=100))

    alone = json.loads((tmp_path / "found.json").read_text())
    _, within = mismatch(run, "--from", "rl-000006", "--to", "rl-000006")
    assert "fp8 engine with the weights of model, " in file.getvalue()
    assert alone["from"] == alone["to"] == "model"
    assert alone["tokens"] == within["tokens"]
    assert alone["orders"] == within["orders"]
    assert not (checkpoint / "mismatch.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "defines no tasks. Add --recipe"),
        (["--recipe", "demo", "--from", "rl-000004"], "--from and --to name checkpoints of a run"),
    ],
)
def test_a_checkpoint_by_itself_has_neither_tasks_nor_places(
    run: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    checkpoint = tmp_path / "model"
    shutil.copytree(run / "checkpoints" / "rl-000006", checkpoint)
    with pytest.raises(UserError, match=message):
        mismatch_command([str(checkpoint), *options], Console(file=io.StringIO()))


def test_a_run_takes_no_recipe(run: Path) -> None:
    with pytest.raises(UserError, match="a run has its own settings"):
        mismatch(run, "--recipe", "demo")
