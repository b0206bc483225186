"""Logs as they come from clusters, terminals and other programs, after what people report."""

import gzip
import json
import os
from pathlib import Path

import pytest
from benchmarks.foreign_log_writers import LOGS, curves

from steadyrl.analysis.causes import CauseName
from steadyrl.analysis.diagnosis import Status
from steadyrl.analysis.foreign import layouts, read_foreign_run
from steadyrl.analysis.foreign.layouts import read_log
from steadyrl.base.errors import UserError

VERL = LOGS["verl, console"]
DISCREPANCY = curves("discrepancy", seed=0)
STEPS = range(30)


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def verl_line(step: int) -> str:
    row = VERL.rows(DISCREPANCY)[step]
    metrics = (f"{name}:{value:.6f}" for name, value in row.items() if name != "step")
    return f"(TaskRunner pid=8) step:{row['step']} - " + " - ".join(metrics)


def cause(path: Path) -> CauseName | None:
    found = read_foreign_run(path).diagnose().cause
    return None if found is None else found.name


def test_what_other_workers_print_into_a_line_costs_no_metric(tmp_path: Path) -> None:
    ends = (
        "\x1b[32m [repeated 2x across cluster]\x1b[0m",
        "(WorkerDict pid=9) step: 3",
        "\x1b]8;;",
    )
    lines = [f"\x1b[36m{verl_line(step)}{ends[step % 3]}" for step in STEPS]
    rows = read_log(write(tmp_path / "train.log", *lines)).rows

    assert [row.step for row in rows] == list(range(1, 31))
    assert {row.values["actor/lr"] for row in rows} == {1e-6}


def test_a_tensor_is_read_as_its_number(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "log", "step:1 - a:tensor(0.5, device='cuda:0') - b:1.5"))

    assert dict(log.rows[0].values) == {"a": 0.5, "b": 1.5}


@pytest.mark.parametrize("width", [90, 133, 160])
def test_lines_that_a_terminal_has_broken_are_joined(width: int, tmp_path: Path) -> None:
    lines = [verl_line(step) for step in STEPS]
    broken = [line[at : at + width] for line in lines for at in range(0, len(line), width)]
    whole = read_log(write(tmp_path / "whole.log", *lines)).rows
    rows = read_log(write(tmp_path / "broken.log", *broken)).rows

    for row, expected in zip(rows, whole, strict=True):
        assert list(row.values.items())[:-1] == list(expected.values.items())[:-1]


def test_a_line_of_another_program_is_not_joined(tmp_path: Path) -> None:
    log = write(tmp_path / "train.log", verl_line(0), "INFO - queue:12 - done", verl_line(1))

    assert {row.values["actor/lr"] for row in read_log(log).rows} == {1e-6}


def test_a_console_that_was_cut_while_it_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text(f"{verl_line(0)}\n{chr(0) * 5000}{verl_line(1)}\n", encoding="utf-8")

    assert [row.step for row in read_log(path).rows] == [1, 2]


def test_names_of_two_versions_in_one_log_are_one_metric(tmp_path: Path) -> None:
    lines = [verl_line(step) for step in STEPS]
    lines[:15] = [line.replace("actor/entropy", "actor/entropy_loss") for line in lines[:15]]
    run = read_foreign_run(write(tmp_path / "train.log", *lines))

    assert len(run.stages[0].metrics["entropy"].values) == 30
    assert run.known["entropy"] == "actor/entropy and actor/entropy_loss"


def test_a_metric_that_begins_too_late_rules_out_nothing(tmp_path: Path) -> None:
    lines = [verl_line(step) for step in STEPS]
    lines[:16] = [line.replace("rollout_corr/k3_kl", "other") for line in lines[:16]]

    assert cause(write(tmp_path / "train.log", *lines)) is CauseName.UNRECORDED


def test_values_that_are_all_missing_are_not_healthy(tmp_path: Path) -> None:
    rows = [
        {"step": step, "reward": None, "reward_std": "N/A", "frac_reward_zero_std": "nan"}
        for step in range(1, 31)
    ]
    run = read_foreign_run(write(tmp_path / "log.jsonl", *map(json.dumps, rows)))

    assert run.diagnose().status is Status.TOO_SHORT
    assert "Training reward: not finite at 30 of 30 steps" in run.to_text()


def series() -> dict[str, list[float]]:
    names = {ours: theirs for ours, theirs in VERL.names.items() if ours != "learning_rate"}
    found: dict[str, list[float]] = {theirs: DISCREPANCY[ours] for ours, theirs in names.items()}
    return found | {"_step": [5.0 * step for step in STEPS]}


def rows() -> list[list[float]]:
    return [list(row) for row in zip(*series().values(), strict=True)]


def table(*, index: bool, point: str = ".", separator: str = ",") -> str:
    head = separator.join([*([""] if index else []), *series()])
    lines = [
        separator.join(
            [*([str(n)] if index else []), *(f"{v:.6f}".replace(".", point) for v in row)]
        )
        for n, row in enumerate(rows())
    ]
    return "\n".join([head, *lines])


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(series()),
        json.dumps({name: dict(enumerate(values)) for name, values in series().items()}),
        json.dumps({"columns": list(series()), "index": list(STEPS), "data": rows()}),
        table(index=True),
        table(index=False, point=",", separator=";"),
    ],
    ids=["lists", "columns", "split", "index", "decimal comma"],
)
def test_tables_of_pandas_and_spreadsheets_are_read(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "history", text)

    assert [row.step for row in read_log(path).rows] == [5 * step for step in STEPS]
    assert cause(path) is CauseName.DISCREPANCY


def test_a_chart_that_tensorboard_exports_is_read_by_its_map(tmp_path: Path) -> None:
    path = write(tmp_path / "chart.json", json.dumps([[1.7e9 + n, n, 0.5] for n in range(1, 12)]))

    assert read_foreign_run(path, columns=["reward=Value"]).diagnose().steps == 11


def test_the_steps_of_ms_swift_are_read(tmp_path: Path) -> None:
    lines = [json.dumps({"reward": 0.5, "global_step/max_steps": f"{5 * n}/50"}) for n in (1, 2)]

    assert [row.step for row in read_log(write(tmp_path / "logging.jsonl", *lines)).rows] == [5, 10]


def test_one_metric_names_the_trainer_to_ask_for(tmp_path: Path) -> None:
    path = write(tmp_path / "chart.csv", "Step,run - critic/score/mean", "1,0.5", "2,0.5")

    with pytest.raises(UserError, match="If it is verl, add --format verl"):
        read_foreign_run(path)
    assert read_foreign_run(path, trainer="verl").known == {"reward": "critic/score/mean"}


def events(folder: Path, steps: range) -> Path:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step in steps:
            writer.add_scalar("critic/score/mean", step / 10, step)
    return next(folder.iterdir())


def test_damaged_and_compressed_event_files_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    path = events(tmp_path / "tb", range(1, 9))
    data = path.read_bytes()
    record = len(data) // 8  # of the same size but for the first one
    value, length = bytearray(data), bytearray(data)
    value[-record // 2] ^= 255
    length[-4 * record + 8] ^= 255
    (tmp_path / "value.tfevents").write_bytes(value)
    (tmp_path / "zeros.tfevents").write_bytes(data + bytes(512))
    (tmp_path / "packed.tfevents.gz").write_bytes(gzip.compress(data))

    damaged = read_log(tmp_path / "value.tfevents")
    assert len(damaged.rows) == 7
    assert damaged.remarks == ("1 record of value.tfevents left out: damaged.",)
    for name in ("zeros.tfevents", "packed.tfevents.gz"):
        assert [row.step for row in read_log(tmp_path / name).rows] == list(range(1, 9))
        assert read_log(tmp_path / name).remarks == ()


def test_what_follows_a_damaged_length_is_said_to_be_left_out(tmp_path: Path) -> None:
    data = bytearray(events(tmp_path / "tb", range(1, 9)).read_bytes())
    first = int.from_bytes(data[:8], "little") + 16
    data[first + int.from_bytes(data[first : first + 8], "little") + 16] ^= 1
    path = tmp_path / "x.tfevents"
    path.write_bytes(data)

    log = read_log(path)
    assert [row.step for row in log.rows] == [1]
    assert log.remarks == ("What follows a damaged record of x.tfevents is left out.",)


def test_of_a_folder_the_one_file_with_metrics_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "slurm-1.out", verl_line(0))
    assert len(read_log(tmp_path).rows) == 1

    write(tmp_path / "a.log", "nothing but warnings")
    write(tmp_path / "b.log", verl_line(0), verl_line(1))
    opened: list[str] = []

    def first_bytes(path: Path, count: int) -> bytes:
        opened.append(path.name)
        return path.read_bytes()[:count]

    monkeypatch.setattr(layouts, "first_bytes", first_bytes)
    log = read_log(tmp_path)
    assert len(log.rows) == 2
    assert opened == ["a.log", "b.log"]
    assert log.remarks == ("Read is b.log. No log: a.log.",)


def test_what_can_be_read_only_once_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "log.zip").write_bytes(b"PK\x03\x04 and more")

    with pytest.raises(UserError, match=r"is a pipe or a device.*Write its content into a file"):
        read_log(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"is an archive\. Unpack it"):
        read_log(tmp_path / "log.zip")


@pytest.mark.timeout(60)
def test_a_large_console_is_passed_over_fast(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    worker = "(WorkerDict pid=1) a warning of a worker with {'a': 1} in it\n" * 20_000
    path.write_text("".join(f"{worker}{verl_line(step)}\n" for step in STEPS), encoding="utf-8")

    assert len(read_log(path).rows) == 30
