from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.records.weight_source import (
    AdapterSource,
    AdapterWeights,
    NamedTensors,
    StateDictWeights,
    WeightSource,
    full_weights,
)

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


def test_an_adapter_stands_for_its_merged_weights_where_whole_models_are_taken() -> None:
    whole = StateDictWeights(state=STATE, version=4)
    adapter = AdapterWeights(state={}, adapter_config={"r": 8}, version=4, merged=whole)
    assert isinstance(adapter, AdapterSource)
    assert full_weights(adapter) is whole
    assert full_weights(whole) is whole


def test_an_adapter_without_its_base_has_none() -> None:
    with pytest.raises(UserError, match=r"without its base model\. Merge the adapter"):
        full_weights(AdapterWeights(state={}, adapter_config={}, version=1))
