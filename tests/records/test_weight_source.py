from collections.abc import Iterator

import torch
from torch import Tensor

from steadyrl.records.weight_source import NamedTensors, StateDictWeights, WeightSource

STATE = {"experts": torch.arange(6.0).view(2, 3), "norm": torch.ones(3)}


def separate_experts(tensors: NamedTensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors:
        if name == "experts":
            yield from ((f"experts.{number}", expert) for number, expert in enumerate(tensor))
        else:
            yield name, tensor


def test_a_state_dict_is_streamed_as_it_is_under_the_names_of_the_model() -> None:
    source = StateDictWeights(state=STATE, version=3, to_checkpoint=separate_experts)
    assert isinstance(source, WeightSource)
    assert (source.version, source.kind) == (3, "full")
    streamed = dict(source.tensors("model"))
    assert streamed.keys() == STATE.keys()
    assert all(streamed[name] is STATE[name] for name in STATE)


def test_checkpoint_names_are_those_of_the_conversion() -> None:
    source = StateDictWeights(state=STATE, version=0, to_checkpoint=separate_experts)
    streamed = dict(source.tensors())
    assert list(streamed) == ["experts.0", "experts.1", "norm"]
    assert streamed["experts.1"].tolist() == [3.0, 4.0, 5.0]


def test_both_namings_agree_where_nothing_is_converted() -> None:
    source = StateDictWeights(state=STATE, version=0)
    assert dict(source.tensors()).keys() == dict(source.tensors("model")).keys()
