"""A run's files, as a kill at any moment leaves them."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyrl.base.errors import UserError
from steadyrl.records.run_folder import (
    RunFolder,
    read_json_lines,
    write_atomically,
    write_folder_atomically,
)

STRANGE = "line\u2028separator \u2029 \x85 \x0b \x0c \r\n tab\t \udc80 \ud83d alone, 😀 é \x00"


def run_folder(path: Path) -> RunFolder:
    path.mkdir(exist_ok=True)
    return RunFolder(path)


def test_metrics_come_back_in_order_and_exactly(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    rows = [{"step": n, "reward": 0.1 + n, "stage": "rl"} for n in range(3)]
    for row in rows:
        folder.append_metrics(row)
    assert folder.read_metrics() == rows
    folder.keep_metrics(rows[:2])
    assert folder.read_metrics() == rows[:2]
    folder.append_metrics(rows[2])
    assert folder.read_metrics() == rows


def test_a_run_without_metrics_has_none(tmp_path: Path) -> None:
    assert run_folder(tmp_path).read_metrics() == []


@pytest.mark.parametrize("kept", range(1, 16))
def test_a_last_line_cut_off_anywhere_is_left_out(tmp_path: Path, kept: int) -> None:
    folder = run_folder(tmp_path)
    folder.append_metrics({"step": 0})
    line = json.dumps({"step": 123456})
    assert len(line) == 16
    with folder.metrics.open("a", encoding="utf-8") as file:
        file.write(line[:kept])
    assert folder.read_metrics() == [{"step": 0}]


def test_a_damaged_inner_line_is_named(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.metrics.write_text('{"step": 0}\n{"st\n{"step": 2}\n', encoding="utf-8")
    with pytest.raises(
        UserError, match=r"Line 2 of .*metrics.jsonl is not valid JSON .* Remove the"
    ):
        folder.read_metrics()


def test_strange_characters_in_completions_survive(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    rows = [{"text": STRANGE}, {"text": STRANGE[::-1]}]
    folder.write_completions("rl", 3, rows)
    path = folder.completions / "rl-000003.jsonl"
    assert folder.completions_file("rl", 3) == path
    assert read_json_lines(path) == rows
    assert path.read_bytes().count(b"\n") == 2


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(st.text(st.characters(codec=None), max_size=20), max_size=4))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = run_folder(tmp_path_factory.mktemp("run"))
    rows = [{"text": text} for text in texts]
    folder.write_completions("rl", 0, rows)
    assert read_json_lines(folder.completions_file("rl", 0)) == rows


def test_a_file_replaces_another_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.yaml"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new" * 10_000 + "\udc80")  # cannot be written to its end
    assert path.read_text(encoding="utf-8") == "old"
    write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["config.yaml"]


def test_a_folder_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rl-000001"

    def write(folder: Path, text: str, *, fail: bool) -> None:
        assert list(folder.iterdir()) == []
        assert folder.name.startswith(".")
        (folder / "weights").write_text(text, encoding="utf-8")
        if fail:
            raise OSError("disk is full")

    with pytest.raises(OSError, match="disk is full"):
        write_folder_atomically(path, lambda folder: write(folder, "one", fail=True))
    assert not path.exists()
    write_folder_atomically(path, lambda folder: write(folder, "two", fail=False))
    assert (path / "weights").read_text(encoding="utf-8") == "two"
    with pytest.raises(OSError, match="disk is full"):
        write_folder_atomically(path, lambda folder: write(folder, "three", fail=True))
    assert (path / "weights").read_text(encoding="utf-8") == "two"
    write_folder_atomically(path, lambda folder: write(folder, "four", fail=False))
    assert (path / "weights").read_text(encoding="utf-8") == "four"
    assert [entry.name for entry in tmp_path.iterdir()] == ["rl-000001"]


def test_what_has_its_name_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under its draft's name first, then its own name in the folder that holds it."""
    settled: list[str] = []

    def note(descriptor: int) -> None:
        number = os.fstat(descriptor).st_ino
        (path,) = (p for p in [tmp_path, *tmp_path.rglob("*")] if p.stat().st_ino == number)
        settled.append(path.relative_to(tmp_path).as_posix())

    def write(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").write_text("w")

    monkeypatch.setattr(os, "fsync", note)
    write_atomically(tmp_path / "config.yaml", "seed: 0")
    assert settled == [".config.yaml.draft", "."]
    settled.clear()
    write_folder_atomically(tmp_path / "rl", write)
    assert settled == [".rl.draft/inner", ".rl.draft/inner/weights", ".rl.draft", "."]


def test_events_are_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.append_metrics({"step": 0})
    folder.remove_events()  # there are none yet
    folder.tensorboard.mkdir()
    (folder.tensorboard / "events").write_text("x", encoding="utf-8")
    folder.remove_events()
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_writes_into_a_memory_survive_and_can_be_replaced(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.keep_memory([])
    assert folder.read_memory() == []
    assert not folder.memory.exists()
    rows = [{"slot": number, "text": STRANGE} for number in range(3)]
    folder.append_memory(rows[:2])
    folder.append_memory(rows[2:])
    assert folder.read_memory() == rows
    folder.keep_memory(rows[:1])
    assert folder.read_memory() == rows[:1]
    folder.keep_memory([])
    assert folder.read_memory() == []


@pytest.mark.parametrize(
    "text",
    [
        "I/O error: No space left on device (os error 28)",
        "The rank failed.\n  save()\nOSError: [Errno 28] No space left on device",
    ],
)
def test_a_folder_that_cannot_be_written_leaves_no_draft_and_says_what_the_system_says(
    tmp_path: Path, text: str
) -> None:
    def write(draft: Path) -> None:
        (draft / "half").write_text("h")
        raise RuntimeError(text)

    with pytest.raises(OSError, match="No space left on device") as fault:
        write_folder_atomically(tmp_path / "checkpoint", write)
    assert fault.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_no_draft(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "notes", "half a surrogate: \ud800")
    assert list(tmp_path.iterdir()) == []


def test_the_record_of_a_resume_that_a_kill_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.append_resume({"lost_steps": 1})
    with folder.resumes.open("a") as file:
        file.write('{"lost_st')
    folder.append_resume({"lost_steps": 2})
    assert folder.read_resumes() == [{"lost_steps": 1}, {"lost_steps": 2}]
