"""Weights in a file, seen by whoever maps it."""

import resource
from pathlib import Path

import pytest
import torch

from steadyrl.base.errors import UserError
from steadyrl.records.shared_weights import SharedWeights, layout_of


def test_what_one_writes_another_reads(tmp_path: Path) -> None:
    weights = {
        "odd": torch.arange(3, dtype=torch.bfloat16),
        "none": torch.zeros(0, 4),
        "scalar": torch.tensor(7, dtype=torch.int64),
        "matrix": torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
    }
    writer = SharedWeights(tmp_path / "weights", layout_of(weights))
    reader = SharedWeights(tmp_path / "weights", layout_of(weights))
    writer.write(weights)

    assert reader.tensors.keys() == weights.keys()
    for name, weight in weights.items():
        assert reader.tensors[name].dtype == weight.dtype
        assert torch.equal(reader.tensors[name], weight)


def test_a_disk_without_room_is_named_before_it_ends_the_process(tmp_path: Path) -> None:
    weights = {"matrix": torch.zeros(100, 100)}
    (tmp_path / "folder").mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UserError, match=r"no room for 4e-05 GB of weights.* set TMPDIR"):
            SharedWeights(tmp_path / "folder" / "weights", layout_of(weights))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
