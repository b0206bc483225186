"""Each layout is read as its trainer writes it; what cannot be read is said in one sentence."""

import bz2
import gzip
import json
import lzma
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.foreign_log_writers import LOGS, LogWriter, curves

from steadyrl.analysis.foreign.layouts import read_log
from steadyrl.analysis.foreign.log import Log
from steadyrl.analysis.foreign.wandb_logs import BLOCK, HEADER, PREFIX, records_of
from steadyrl.base.errors import UserError

VERL = LOGS["verl, console"]


def values_of(log: Log, name: str) -> list[float]:
    return [row.values[name] for row in log.rows if name in row.values]


@pytest.mark.parametrize("writer", LOGS.values(), ids=LOGS)
def test_every_value_of_a_layout_is_read(writer: LogWriter, tmp_path: Path) -> None:
    values = curves("none", seed=0)
    log = read_log(writer.log(tmp_path, values))
    rows = writer.rows(values)

    for ours, theirs in writer.names.items():
        found = list(dict.fromkeys(values_of(log, theirs)))  # optimizer steps repeat a rollout's
        expected = list(dict.fromkeys(row[theirs] for row in rows))
        assert found == pytest.approx(expected), ours


def test_tensorboard_events_are_read_in_order_of_their_files(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for first, value in ((1, 0.25), (3, 0.5)):  # a restart writes a second file
        with SummaryWriter(str(tmp_path / "tb"), filename_suffix=f".{first}") as writer:
            for step in (first, first + 1):
                writer.add_scalar("critic/score/mean", value, step)
                writer.add_text("sample", "left out", step)
    log = read_log(tmp_path)

    assert log.layout == "TensorBoard events"
    assert [(row.step, dict(row.values)) for row in log.rows] == [
        (step, {"critic/score/mean": value})
        for step, value in ((1, 0.25), (2, 0.25), (3, 0.5), (4, 0.5))
    ]


def test_an_event_file_that_was_cut_off_is_read_to_there(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(1, 4):
            writer.add_scalar("actor/grad_norm", 1.0, step)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-10])

    assert [row.step for row in read_log(file).rows] == [1, 2]


def leveldb(records: list[bytes]) -> bytes:
    """A W&B file, with records split at the ends of blocks."""
    data = bytearray(b":W&B\xe1\xbe\x00")
    for record in records:
        kind, rest = 1, record
        while True:
            left = BLOCK - len(data) % BLOCK
            if left < PREFIX:
                data += bytes(left)
                continue
            part, rest = rest[: left - PREFIX], rest[left - PREFIX :]
            if rest:
                now, kind = (2 if kind == 1 else 3), 3
            else:
                now = 1 if kind == 1 else 4
            data += bytes(4) + len(part).to_bytes(2, "little") + bytes([now]) + part
            if not rest:
                break
    return bytes(data)


@pytest.mark.parametrize("first", [10, BLOCK - HEADER - PREFIX - 3, BLOCK - HEADER - PREFIX])
def test_records_of_a_wandb_file_go_on_over_its_blocks(first: int) -> None:
    records = [b"a" * first, b"b" * 70_000, b"c"]
    data = leveldb(records)

    assert list(records_of(data)) == records
    assert list(records_of(data[:-1])) == records[:2]  # the last one was cut off


def test_a_wandb_file_needs_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyrl.base.extras.find_spec", lambda _: None)
    path = tmp_path / "run-1.wandb"
    path.write_bytes(leveldb([b"x"]))

    with pytest.raises(UserError, match=r"pip install 'steadyrl\[wandb\]'"):
        read_log(path)


def test_a_console_may_print_colors_progress_and_numpy(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text(
        "Training Progress:   1%| | 1/140 [00:49<1:53:43]\r"
        "\x1b[36m(TaskRunner pid=7)\x1b[0m step:1 - actor/lr(1e-4):0.010 - "
        "actor/ppo_kl:np.float64(-8e-06) - actor/grad_norm:nan - note:text\n"
        "{'loss': '0.5', 'reward': 0.25, 'epoch': '0.1'}\n",
        encoding="utf-8",
    )
    log = read_log(path)

    assert log.rows[0].step == 1
    assert log.rows[0].values["actor/lr(1e-4)"] == 0.01
    assert log.rows[0].values["actor/ppo_kl"] == -8e-6
    assert "note" not in log.rows[0].values
    assert dict(log.rows[1].values) == {"loss": 0.5, "reward": 0.25, "epoch": 0.1}
    assert "counted instead" in log.remarks[0]


LINE = '{"step": 1, "data": {"critic/score/mean": 0.5, "actor/grad_norm": NaN}}'


def zstd(data: bytes) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    return bytes(pyarrow.compress(data, codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress,
        bz2.compress,
        lzma.compress,
        zstd,
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.decode().encode("utf-16"),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: gzip.compress(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")),
    ],
    ids=["gz", "bz2", "xz", "zst", "mark", "utf-16", "crlf", "all of it"],
)
@pytest.mark.parametrize(
    "text",
    [
        f"{LINE}\n{LINE}\n",
        json.dumps({"log_history": [{"step": 1, "reward": 0.5}]}, indent=1),
        "step,reward\n1,0.5\n",
        "step:1 - critic/score/mean:0.5 - actor/grad_norm:inf\n",
    ],
    ids=["lines", "json", "table", "console"],
)
def test_a_log_may_be_packed_in_other_bytes(
    text: str, packed: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "plain").write_text(text, encoding="utf-8")
    (tmp_path / "packed").write_bytes(packed(text.encode()))

    plain, log = read_log(tmp_path / "plain"), read_log(tmp_path / "packed")
    assert log.layout == plain.layout
    assert repr(log.rows) == repr(plain.rows)
    assert log.remarks == ()


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_a_compressed_log_that_is_cut_off_or_damaged_is_refused(
    packed: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "train.log.packed"
    data = packed(f"{LINE}\n{LINE}\n".encode())
    for broken in (data[:-12], data[:8] + bytes(len(data) - 8)):
        path.write_bytes(broken)

        with pytest.raises(UserError, match=r"cut off or is damaged.*zcat"):
            read_log(path)


def test_numbers_beyond_floats_and_texts_of_numbers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [f'{{"step": {n}, "reward": "NaN", "x": -Infinity, "y": 1{"0" * 400}}}' for n in (1, 2)]
    path.write_text("\n".join(rows))

    row = read_log(path).rows[-1]
    assert math.isnan(row.values["reward"])
    assert (row.values["x"], row.values["y"]) == (-math.inf, math.inf)


@pytest.mark.timeout(20)
def test_a_long_line_that_is_no_log_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    samples = "[" + ", ".join("{'prompt': 'a', 'epoch': 'b'}" for _ in range(40_000)) + "]"
    path.write_text(f"{samples}\n{{'loss': 0.1, 'reward': 0.5, 'epoch': 0.1}}\n")

    assert [dict(row.values) for row in read_log(path).rows] == [
        {"loss": 0.1, "reward": 0.5, "epoch": 0.1}
    ]


def test_a_first_line_that_is_longer_than_what_a_file_is_told_by_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [{"step": 1, "text": "x" * (1 << 20), "reward": 0.5}, {"step": 2, "reward": 0.5}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert [row.step for row in read_log(path).rows] == [1, 2]


def test_steps_of_nemo_rl_go_on_over_epochs(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    results = "\N{BAR CHART} Training Results:\n  \N{BULLET} Avg Reward: 0.5\n\n"
    lines = [
        f"=== Epoch {epoch}/2 ===\n" + "".join(f"=== Step {n}/2 ===\n{results}" for n in (1, 2))
        for epoch in (1, 2)
    ]
    path.write_text("".join(lines), encoding="utf-8")

    assert [row.step for row in read_log(path).rows] == [1, 2, 3, 4]


def test_lines_of_json_that_were_cut_off_are_counted(tmp_path: Path) -> None:
    path = LOGS["verl, file logger"].log(tmp_path, curves("none", seed=0))
    path.write_text(path.read_text()[:-20], encoding="utf-8")
    log = read_log(path)

    assert len(log.rows) == 29
    assert log.remarks == ("1 line of experiment.jsonl left out: not JSON.",)


def test_the_latest_checkpoint_of_a_folder_is_read(tmp_path: Path) -> None:
    for step in (5, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        history = [{"step": each, "reward": 0.5} for each in range(1, step + 1)]
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))

    assert len(read_log(tmp_path).rows) == 10


def nothing(_: Path) -> None:
    """Writes no file."""


def cut_json(path: Path) -> None:
    path.write_text('{\n  "log_history": [{"step": 1,')


def chart_of_two(path: Path) -> None:
    path.write_text("Step,a - reward,b - reward\n1,0.5,0.25\n")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (nothing, "does not exist"),
        (lambda path: path.write_text("  \n"), "is empty. Wait until"),
        (lambda path: path.write_text("hello\nworld\n"), "is not known. Known are"),
        (lambda path: path.write_bytes(bytes(range(256)) * 4), "is not known. Known are"),
        (cut_json, "may have been cut off"),
        (lambda path: path.write_text('{"log_history": []}'), "without a single metric"),
        (lambda path: path.write_text('{"seed": 1}'), "holds no log"),
        (chart_of_two, "has columns of 2 runs: a, b"),
        (lambda path: path.mkdir(), "is not a run folder"),
    ],
)
def test_what_is_no_log_is_refused_in_a_sentence(
    write: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    write(path)

    with pytest.raises(UserError, match=message):
        read_log(path)


def test_a_run_after_its_first_step_is_read(tmp_path: Path) -> None:
    path = tmp_path / "experiment.jsonl"
    path.write_text('{"step": 1, "data": {"critic/score/mean": 0.5}}\n')

    assert [(row.step, dict(row.values)) for row in read_log(path).rows] == [
        (1, {"critic/score/mean": 0.5})
    ]


def test_components_of_one_run_are_joined_and_runs_of_ours_are_not(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "run_default"):
        folder.mkdir(exist_ok=True)
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss/mean": 0.5}\n')
    assert len(read_log(tmp_path).rows) == 2

    (tmp_path / "run_default" / "config.yaml").touch()
    with pytest.raises(UserError, match="holds 2 logs"):
        read_log(tmp_path)


def test_several_logs_in_a_folder_are_not_mixed(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("step,reward\n1,0.5\n")

    with pytest.raises(UserError, match=r"holds 2 logs: a.csv, b.csv. Give one of them"):
        read_log(tmp_path)
