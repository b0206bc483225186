"""Weights are copied whole or not at all."""

import pytest
import torch

from steadyrl.policies.weights import copy_weights


def test_weights_of_the_same_names_and_shapes_are_copied_in_the_models_own_type() -> None:
    own = {"a": torch.zeros(2, dtype=torch.bfloat16), "b": torch.zeros(())}
    copy_weights({"b": torch.tensor(3.0), "a": torch.tensor([1.0, 2.0])}, own)
    assert own["a"].dtype == torch.bfloat16
    assert (own["a"].tolist(), own["b"].item()) == ([1.0, 2.0], 3.0)


def test_nothing_is_copied_if_a_name_or_a_shape_is_wrong() -> None:
    own = {"a": torch.zeros(2), "b": torch.zeros(3)}
    ones = {"a": torch.ones(2), "b": torch.ones(3)}
    with pytest.raises(ValueError, match=r"Weight names differ from the model's: b, c\."):
        copy_weights({"a": ones["a"], "c": ones["b"]}, own)
    with pytest.raises(ValueError, match=r"Weight b has shape \(1, 3\), the model expects \(3,\)"):
        copy_weights({"a": ones["a"], "b": ones["b"][None]}, own)
    assert not any(weight.any() for weight in own.values())


def test_float32_weights_become_bfloat16_ones_without_bias_if_asked() -> None:
    # 1 + 2^-9 lies a quarter of the way from 1 to the next bfloat16 number, 1 + 2^-7.
    weights = {"a": torch.full((1 << 14,), 1 + 2.0**-9), "b": torch.full((4,), 1 + 2.0**-9)}
    own = {"a": torch.zeros(1 << 14, dtype=torch.bfloat16), "b": torch.zeros(4)}
    copy_weights(weights, own, rounding="stochastic", seed=3)
    assert own["a"].double().mean().item() == pytest.approx(1 + 2.0**-9, abs=3e-4)
    assert set(own["a"].tolist()) == {1.0, 1 + 2.0**-7}
    assert torch.equal(own["b"], weights["b"])
    copy_weights(weights, own)
    assert set(own["a"].tolist()) == {1.0}
