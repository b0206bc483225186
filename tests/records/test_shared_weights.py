"""Weights in a file, seen by whoever maps it."""

from pathlib import Path

import torch

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
