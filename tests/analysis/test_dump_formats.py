"""Dumps of every framework are read as they were written, or refused with what to do."""

import gzip
import json
import lzma
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dump_world import Samples
from dump_writers import WRITERS
from safetensors.numpy import save_file
from tests.analysis.dump_samples import drawn

from steadyrl.analysis.dumps import FORMATS, Pairing, pair, read_content, read_dump
from steadyrl.analysis.dumps.record import UNKNOWN
from steadyrl.base.errors import UserError

ROUTED = ("verl", "slime", "steadyrl")


def few(seed: int = 0) -> Samples:
    """Samples of which one has a token in the middle that does not count, as of a tool."""
    samples = drawn(seed, prompts=3, group=2)
    mask = samples[1].mask.copy()
    mask[1] = False
    samples[1] = replace(samples[1], mask=mask)
    return samples


def paired(paths: list[Path], **options: Any) -> Pairing:
    return pair(*[read_dump(read_content(path), path.name, **options) for path in paths])


@pytest.mark.parametrize("format", WRITERS)
def test_what_a_framework_writes_is_read_back(format: str, tmp_path: Path) -> None:
    samples = few()
    pairing = paired(WRITERS[format](samples, tmp_path))
    assert len(pairing.rows) == len(samples)
    for row, sample in zip(pairing.rows, samples, strict=True):
        counted = np.flatnonzero(sample.mask)
        assert row.tokens[row.mask].tolist() == [sample.response[at] for at in counted]
        assert row.prompt.tolist() == list(sample.trainer_prompt)
        for name in ("rollout_logprobs", "trainer_logprobs"):
            expected = getattr(sample, name)[sample.mask]
            assert getattr(row, name)[row.mask] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("format", ROUTED)
def test_routes_lie_at_the_tokens_that_were_fed(format: str, tmp_path: Path) -> None:
    samples = few()
    pairing = paired(WRITERS[format](samples, tmp_path))
    for row, sample in zip(pairing.rows, samples, strict=True):
        known = (row.rollout_experts != UNKNOWN).all(axis=(1, 2))
        expected = sample.rollout_experts
        zeros = (expected == 0).all(axis=(1, 2)) if format == "verl" else np.zeros(len(expected))
        assert (row.rollout_experts[:-1][zeros == 0] == expected[zeros == 0]).all()
        assert not known[-1]


@pytest.mark.parametrize("format", ["verl", "prime-rl", "steadyrl"])
def test_the_entropy_is_read_where_it_is_recorded(format: str, tmp_path: Path) -> None:
    samples = few()
    pairing = paired(WRITERS[format](samples, tmp_path))
    for row, sample in zip(pairing.rows, samples, strict=True):
        assert row.entropy[row.mask] == pytest.approx(sample.entropy[sample.mask], abs=1e-5)


def test_a_folder_of_ranks_is_one_dump(tmp_path: Path) -> None:
    for rank, path in enumerate(WRITERS["prime-rl"](few(seed), tmp_path)[0] for seed in (1, 2)):
        path.rename(path.with_name(f"rank_{rank + 1}.jsonl"))
    assert len(paired([tmp_path / "step_0"]).rows) == 12


def test_a_train_dump_by_column_is_read_as_one_by_sample(tmp_path: Path) -> None:
    rollout, train = WRITERS["slime"](few(), tmp_path)
    samples = torch.load(train, weights_only=True)["samples"]
    columns = {key: [sample[key] for sample in samples] for key in samples[0]}
    torch.save({"rollout_id": 0, "rank": 0, "rollout_data": columns, "cp_size": 1}, train)
    assert len(paired([rollout, train]).rows) == 6
    torch.save({"rollout_id": 0, "rollout_data": columns, "cp_size": 2}, train)
    with pytest.raises(UserError, match="2 context-parallel ranks"):
        paired([rollout, train])


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    rows = [
        {
            "ids": [*sample.prompt, *sample.response],
            "own": sample.mask.astype(int).tolist(),
            "mu": sample.rollout_logprobs.tolist(),
            "pi": sample.trainer_logprobs.tolist(),
        }
        for sample in few()
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    names = {
        "tokens": "ids",
        "response_mask": "own",
        "rollout_logprobs": "mu",
        "trainer_logprobs": "pi",
    }
    assert len(paired([path], columns=names).rows) == 6
    with pytest.raises(UserError, match="no layout that is known: it holds ids, mu, own, pi"):
        paired([path])
    with pytest.raises(UserError, match=r"'logp', which mine\.jsonl does not have\. It has ids"):
        paired([path], columns=names | {"trainer_logprobs": "logp"})
    with pytest.raises(UserError, match=r"'ids', which is not a column\. The columns are tokens"):
        paired([path], columns={"ids": "ids"})


def test_padded_tensors_and_parquet_are_read_as_lines(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    samples = few()
    lines = [json.loads(line) for line in _own(samples, tmp_path).read_text().splitlines()]
    write_table(pyarrow.Table.from_pylist(lines), tmp_path / "own.parquet")
    longest = max(len(line["tokens"]) for line in lines)
    padded = {
        name: np.array([_to(line[name], longest) for line in lines])
        for name in ("tokens", "rollout_logprobs", "trainer_logprobs")
    }
    masks = [[0] * len(s.prompt) + s.mask.astype(int).tolist() for s in samples]
    padded["response_mask"] = np.array([_to(mask, longest) for mask in masks])
    padded["lengths"] = np.array([len(line["tokens"]) for line in lines])
    save_file(padded, tmp_path / "own.safetensors")
    expected = paired([tmp_path / "own.jsonl"])
    for name in ("own.parquet", "own.safetensors"):
        for one, other in zip(paired([tmp_path / name]).rows, expected.rows, strict=True):
            assert (one.tokens == other.tokens).all()
            assert (one.mask == other.mask).all()
            assert (one.trainer_logprobs[one.mask] == other.trainer_logprobs[one.mask]).all()


def _to(values: list[float], length: int) -> list[float]:
    return values + [0] * (length - len(values))


def _own(samples: Samples, folder: Path) -> Path:
    rows = [
        {
            "tokens": [*s.prompt, *s.response],
            "response_mask": s.mask.astype(int).tolist(),
            "rollout_logprobs": [0.0] * len(s.prompt) + s.rollout_logprobs.tolist(),
            "trainer_logprobs": [0.0] * len(s.prompt) + s.trainer_logprobs.tolist(),
        }
        for s in samples
    ]
    path = folder / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_dump_without_a_mask_counts_every_token_of_a_response(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in _own(few(), tmp_path).read_text().splitlines()]
    for row in rows:
        del row["response_mask"]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairing = paired([tmp_path / "own.jsonl"])
    assert not pairing.has_mask
    assert [int(row.mask.sum()) for row in pairing.rows] == [len(s.response) for s in few()]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input": "a", "output": "b", "score": 1}, "texts by verl.*calculate_log_probs=True"),
        ({"prompt": "a", "completion": "b", "advantage": 1}, "texts by trl.*use_vllm=True"),
        ({"loss": 1}, "no layout that is known: it holds loss. Known are the dumps of verl 0.9.1"),
    ],
)
def test_files_without_tokens_are_refused(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(UserError, match=message):
        paired([path])


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_a_missing_column_is_answered_with_the_setting_of_its_framework(
    known: Any, tmp_path: Path
) -> None:
    dump = read_dump(*_of(WRITERS[known.name](few(), tmp_path)[0]))
    rows = tuple(replace(row, trainer_logprobs=None) for row in dump.rows)
    with pytest.raises(UserError, match="no log-probabilities of the trainer") as caught:
        pair(replace(dump, rows=rows))
    assert known.setting in str(caught.value)


def _of(path: Path) -> tuple[Any, str]:
    return read_content(path), path.name


def test_objects_of_other_packages_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "batch.pt"
    torch.save({"responses": torch.zeros(1, 2), "owner": Path("x")}, path)
    with pytest.raises(UserError, match="Objects of other packages can run code and are not"):
        read_content(path)


@pytest.mark.parametrize("name", ["batch.pkl", "batch.npy", "batch.npz", "batch.pickle"])
def test_pickles_are_refused_unread(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(UserError, match="is a pickle, which can run code and is not loaded"):
        read_content(path)
    path = path.rename(tmp_path / "batch.pt")
    with pytest.raises(UserError, match="can run code and are not"):
        read_content(path)
    assert not (tmp_path / "ran").exists()


class Bomb:
    """Runs code where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_tensors_that_were_cut_off_are_refused(part: float, tmp_path: Path) -> None:
    path = WRITERS["trl"](few(), tmp_path)[0]
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(UserError, match="or is damaged"):
        read_content(path)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "own.jsonl.gz": gzip.compress,
    "own.ndjson": lambda data: data,
    "own.jsonl": lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"),
    "own.json": lambda data: b"[" + b",\n".join(data.splitlines()) + b"]",
    "own.json.xz": lambda data: lzma.compress(b"[" + b",".join(data.splitlines()) + b"]"),
}


@pytest.mark.parametrize("name", PACKED)
def test_rows_may_be_packed_in_other_bytes(name: str, tmp_path: Path) -> None:
    lines = _own(few(), tmp_path).read_text().splitlines()
    rows = [{**json.loads(line), "text": "a\u2028b\x85c"} for line in lines]
    data = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    expected = paired([tmp_path / "own.jsonl"])
    (tmp_path / name).write_bytes(PACKED[name](data))
    found = paired([tmp_path / name])
    for one, other in zip(found.rows, expected.rows, strict=True):
        assert (one.tokens == other.tokens).all()


def test_a_last_line_that_was_cut_off_is_left_out_and_said(tmp_path: Path) -> None:
    path = WRITERS["nemo-rl"](few(), tmp_path)[0]
    whole = path.read_text()
    path.write_text(whole[:-40])
    notes: list[str] = []
    dump = read_dump(read_content(path, notes), path.name, notes=notes)
    assert len(dump.rows) == 5
    assert pair(dump).notes == ("The last line of train_data_step1.jsonl was cut off and is left "
                                "out.",)  # fmt: skip
    path.write_text(whole[:-40] + "\n" + whole)
    with pytest.raises(UserError, match=r"Line 6 of train_data_step1\.jsonl is not JSON"):
        read_content(path)


def test_numbers_that_are_not_finite_are_read_from_json(tmp_path: Path) -> None:
    path = WRITERS["prime-rl"](few(), tmp_path)[0]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["trainer_logprobs"][-1] = math.inf
    rows[1]["trainer_logprobs"][-1] = "NaN"
    path.write_text("\n".join(map(json.dumps, rows)))
    first, second, *_ = paired([path]).rows
    assert first.trainer_logprobs is not None
    assert second.trainer_logprobs is not None
    assert math.isinf(first.trainer_logprobs[-1])
    assert math.isnan(second.trainer_logprobs[-1])


def test_a_configuration_beside_the_dumps_is_none(tmp_path: Path) -> None:
    path = WRITERS["prime-rl"](few(), tmp_path)[0]
    (path.parent / "config.json").write_text("{}")
    assert len(paired([path.parent]).rows) == 6


def test_another_schema_is_said_and_not_guessed(tmp_path: Path) -> None:
    path = WRITERS["prime-rl"](few(), tmp_path)[0]
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(UserError, match="schema_version 2, and version 1 of prime-rl"):
        paired([path])


def test_a_dump_that_lacks_a_key_is_answered_with_the_setting(tmp_path: Path) -> None:
    path = WRITERS["nemo-rl"](few(), tmp_path)[0]
    path.write_text(path.read_text().replace("prev_logprobs", "other"))
    with pytest.raises(UserError, match=r"no prev_logprobs, which dumps of nemo-rl 0\.6\.0 have"):
        paired([path])
    with pytest.raises(UserError, match=r"no responses and no .*, which dumps of verl"):
        paired([path], format="verl")


def test_coarse_tensors_are_read_and_nested_ones_refused(tmp_path: Path) -> None:
    path = WRITERS["trl"](few(), tmp_path)[0]
    batch = torch.load(path, weights_only=True)
    fine = paired([path]).rows[0].rollout_logprobs
    batch["sampling_per_token_logps"] = batch["sampling_per_token_logps"].to(torch.float8_e5m2)
    torch.save(batch, path)
    coarse = paired([path]).rows[0].rollout_logprobs
    assert coarse is not None
    assert coarse == pytest.approx(fine, rel=0.2, nan_ok=True)
    batch["sampling_per_token_logps"] = torch.nested.nested_tensor(
        [torch.ones(2), torch.ones(3)], layout=torch.jagged
    )
    torch.save(batch, path)
    with pytest.raises(UserError, match=r"sampling_per_token_logps of .* is not a plain"):
        paired([path])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": [], "response_mask": [1]}, "has 0 tokens, and a response of 1"),
        ({"tokens": [1, 2], "response_length": math.nan}, "is nan, which is not a number of"),
        ({"tokens": [1, 2], "response_length": [[1]]}, "which is not a number of tokens"),
        ({"tokens": [1, 2], "response_length": 5}, "has 2 tokens, and a response of 5"),
    ],
)
def test_lengths_that_are_none_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_dump([{"rollout_logprobs": [-1.0], **row}], "own.jsonl")


def test_unequal_shapes_are_refused(tmp_path: Path) -> None:
    path = WRITERS["trl"](few(), tmp_path)[0]
    batch = torch.load(path, weights_only=True)
    batch["old_per_token_logps"] = batch["old_per_token_logps"][:, 1:]
    torch.save(batch, path)
    with pytest.raises(UserError, match=r"old_per_token_logps of batch.pt has shape \(6, \d+\)"):
        paired([path])


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("dump.bin", lambda path: path.write_bytes(b"x"), "dump.bin is not a kind of file"),
        ("dump.jsonl", lambda path: path.write_text("{'a'}"), "Line 1 of dump.jsonl is not JSON"),
        ("dump.jsonl", lambda path: path.write_text("[1]"), "Line 1 of dump.jsonl is not an obj"),
        ("dump.pt", lambda path: path.write_bytes(b"x"), "dump.pt holds more than tensors"),
        ("dump.pt", lambda path: torch.save(torch.ones(2), path), "dump.pt holds a Tensor"),
        ("dump", lambda path: path.mkdir(), "dump holds no dump"),
        ("dump.safetensors", lambda path: path.write_bytes(b"x"), "is not a file of safetensors"),
    ],
)
def test_unreadable_files_are_refused(
    name: str, write: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="There is no dump"):
        read_content(tmp_path / name)
    write(tmp_path / name)
    with pytest.raises(UserError, match=message):
        read_content(tmp_path / name)
