"""AdamW on float32 masters, and its learning rate."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from steadyrl.learners.optimizer import MasterOptimizer, OptimizerSettings, Reach, learning_rate
from steadyrl.policies.rounding import Rounding
from tests.closeness import assert_close, tolerance


def with_gradients(
    weight: nn.Parameter, gradients: list[Tensor], **settings: object
) -> list[Tensor]:
    """The weight after each of `gradients`."""
    optimizer = MasterOptimizer([("weight", weight)])
    chosen = OptimizerSettings(learning_rate=0.1, **settings)
    seen = []
    for gradient in gradients:
        optimizer.zero_gradients()
        weight.grad = gradient.to(weight.dtype)
        optimizer.gather_gradients()
        optimizer.step(chosen, chosen.learning_rate)
        seen.append(weight.detach().clone())
    return seen


def test_steps_are_those_of_torch_adamw() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, 3, generator=generator)
    gradients = [torch.randn(5, 3, generator=generator) for _ in range(4)]
    ours = with_gradients(
        nn.Parameter(start.clone()), gradients, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1
    )
    weight = nn.Parameter(start.double())
    oracle = torch.optim.AdamW([weight], lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1)
    for gradient, value in zip(gradients, ours, strict=True):
        weight.grad = gradient.double()
        oracle.step()
        assert_close(value, weight, terms=16)


def test_steps_too_small_for_bfloat16_add_up_in_the_master() -> None:
    # Under a constant gradient the two bias-corrected moments of Adam cancel, so that each step is
    # the learning rate. Below 1, bfloat16 has steps of 2^-8 = 0.0039: ten steps of 1e-4 give
    # 0.999, which rounds to 1, fifty give 0.995, which rounds to 1 - 2^-8 = 0.99609375.
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    optimizer = MasterOptimizer([("weight", weight)])
    settings = OptimizerSettings(learning_rate=1e-4)
    seen = {}
    for number in range(1, 51):
        optimizer.zero_gradients()
        weight.grad = torch.ones_like(weight)
        optimizer.gather_gradients()
        optimizer.step(settings, 1e-4)
        seen[number] = (optimizer.masters["weight"].item(), weight.item())

    assert seen[10] == (pytest.approx(0.999, rel=tolerance(1.0, terms=10)), 1.0)
    assert seen[50] == (pytest.approx(0.995, rel=tolerance(1.0, terms=50)), 0.99609375)


def test_gradients_of_a_bfloat16_weight_are_summed_in_float32() -> None:
    # 1 + 2^-9 is no bfloat16 number.
    weight = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    optimizer = MasterOptimizer([("weight", weight)])
    for value in (1.0, 2.0**-9):
        weight.grad = torch.full_like(weight, value)
        optimizer.gather_gradients()

    assert optimizer.gradients()["weight"].tolist() == [1 + 2.0**-9]
    optimizer.zero_gradients()
    assert optimizer.gradients() == {}


def test_a_float32_weight_is_its_own_master() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = MasterOptimizer([("weight", weight)])

    assert optimizer.masters["weight"] is weight
    assert optimizer.state() == {}


def test_frozen_weights_are_left_alone() -> None:
    frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    learned = nn.Parameter(torch.ones(1))
    optimizer = MasterOptimizer([("frozen", frozen), ("learned", learned)])
    optimizer.set_zero_gradients()
    optimizer.step(OptimizerSettings(learning_rate=0.5, weight_decay=0.5), 0.5)

    # Decoupled weight decay alone: 1 - 0.5 * 0.5.
    assert (frozen.item(), learned.item()) == (1.0, 0.75)


@pytest.mark.parametrize(
    ("dtype", "rounding"),
    [(torch.float32, "nearest"), (torch.bfloat16, "nearest"), (torch.bfloat16, "stochastic")],
)
def test_an_optimizer_with_loaded_state_goes_on_to_the_same_bits(
    dtype: torch.dtype, rounding: Rounding
) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = nn.Parameter(torch.randn(7, generator=generator).to(dtype))
    first = MasterOptimizer([("weight", weight)], rounding=rounding)
    settings = OptimizerSettings(learning_rate=1e-2)

    def advance(optimizer: MasterOptimizer, on: nn.Parameter, seed: int) -> None:
        optimizer.zero_gradients()
        on.grad = torch.randn(7, generator=torch.Generator().manual_seed(seed)).to(dtype)
        optimizer.gather_gradients()
        optimizer.step(settings, 1e-2)

    advance(first, weight, 5)
    state = {name: value.clone() for name, value in first.state().items()}
    copy = nn.Parameter(weight.detach().clone())
    second = MasterOptimizer([("weight", copy)], rounding=rounding)
    second.load_state(state, {"weight": copy})
    for seed in (6, 7):
        advance(first, weight, seed)
        advance(second, copy, seed)

    assert torch.equal(weight, copy)
    assert all(torch.equal(value, second.state()[name]) for name, value in first.state().items())
    assert float(state["step/weight"]) == 1  # what was loaded is not written to


def test_masters_that_a_state_lacks_are_the_saved_weights_with_all_their_bits() -> None:
    # 1 + 2^-9 is not a bfloat16 number; it rounds to 1.
    trained = MasterOptimizer([("weight", nn.Parameter(torch.ones(1)))])
    weight = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    optimizer = MasterOptimizer([("weight", weight)])
    optimizer.load_state(trained.state(), {"weight": torch.tensor([1 + 2.0**-9])})

    assert optimizer.masters["weight"].item() == 1 + 2.0**-9
    assert weight.item() == 1


def test_masters_begin_with_the_precision_that_the_checkpoint_had() -> None:
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    precise = {"weight": torch.tensor([1 + 2.0**-9])}
    optimizer = MasterOptimizer([("weight", weight)], masters=precise)
    optimizer.set_zero_gradients()
    optimizer.step(OptimizerSettings(), 1e-6)

    assert optimizer.masters["weight"].item() == 1 + 2.0**-9
    assert precise["weight"].item() == 1 + 2.0**-9  # what was given is not written to


# What reaches the weights. Below 1, bfloat16 numbers are 2^-8 apart, so one step of 2^-12 lowers
# one weight in sixteen if rounding is unbiased, and none if it is to nearest.


def one_step(rounding: Rounding, dtype: torch.dtype, size: int = 1 << 14) -> tuple[Tensor, Reach]:
    weight = nn.Parameter(torch.ones(size, dtype=dtype))
    optimizer = MasterOptimizer([("weight", weight)], rounding=rounding)
    weight.grad = torch.ones_like(weight)
    optimizer.gather_gradients()
    reach = optimizer.step(OptimizerSettings(learning_rate=2.0**-12), 2.0**-12)
    return weight.detach().double(), reach


def test_rounding_to_nearest_loses_an_update_that_stochastic_rounding_passes_on() -> None:
    lost, nothing = one_step("nearest", torch.bfloat16)
    kept, something = one_step("stochastic", torch.bfloat16)

    assert torch.equal(lost, torch.ones_like(lost))
    assert (nothing.weights_changed, nothing.update_reached) == (0, 0)
    assert set(kept.tolist()) == {1.0, 1 - 2.0**-8}
    # Of 4096 elements measured, 256 are expected to move: 16 standard deviations of 15.5 each.
    assert something.weights_changed == pytest.approx(1 / 16, rel=0.3)
    assert something.update_reached == pytest.approx(1, rel=0.3)
    assert 1 - kept.mean().item() == pytest.approx(2.0**-12, rel=0.2)


def test_in_float32_every_update_reaches_the_weights() -> None:
    _, reach = one_step("nearest", torch.float32)

    assert (reach.weights_changed, reach.update_reached) == (1, 1)


def test_an_update_without_movement_loses_nothing() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = MasterOptimizer([("weight", weight)])
    optimizer.set_zero_gradients()
    reach = optimizer.step(OptimizerSettings(), 1e-6)

    assert (reach.weights_changed, reach.update_reached) == (0, 1)


def test_weights_move_only_where_their_masters_do() -> None:
    generator = torch.Generator().manual_seed(0)
    precise = {"weight": torch.randn(1000, generator=generator)}
    weight = nn.Parameter(precise["weight"].bfloat16())
    optimizer = MasterOptimizer([("weight", weight)], masters=precise, rounding="stochastic")
    before = weight.detach().clone()
    optimizer.set_zero_gradients()
    optimizer.step(OptimizerSettings(), 1e-6)

    assert torch.equal(weight, before)


# steps: 10, learning rate 1, warm-up of 2. Warm-up: 1/2, 2/2. Then the progress of step 6 is
# (6 - 2) / (10 - 2) = 1/2. Linear: 0.1 + 0.9 / 2 = 0.55. Cosine: (1 + cos(pi / 2)) / 2 = 1/2, so
# 0.55 as well; at step 4, progress 1/4, 0.1 + 0.9 * (1 + sqrt(1/2)) / 2 = 0.8682.
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {0: 0.5, 1: 1.0, 2: 1.0, 6: 1.0, 9: 1.0}),
        ("linear", {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.775, 6: 0.55, 10: 0.1}),
        (
            "cosine",
            {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.1 + 0.45 * (1 + math.sqrt(0.5)), 6: 0.55, 10: 0.1},
        ),
    ],
)
def test_learning_rate_warms_up_and_then_follows_its_schedule(
    schedule: str, expected: dict[int, float]
) -> None:
    settings = OptimizerSettings(learning_rate=1.0, warmup_steps=2, schedule=schedule)
    rates = {step: learning_rate(settings, step, 10) for step in expected}

    assert rates == pytest.approx(expected, abs=1e-6)


@given(
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    warmup=st.integers(0, 30),
    steps=st.integers(1, 30),
)
def test_learning_rate_rises_then_never_rises_again(schedule: str, warmup: int, steps: int) -> None:
    settings = OptimizerSettings(learning_rate=2.0, warmup_steps=warmup, schedule=schedule)
    rates = [learning_rate(settings, step, steps) for step in range(steps)]
    rising, falling = rates[:warmup], rates[warmup:]

    assert all(0.2 <= rate <= 2.0 for rate in falling)
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0},
        {"schedule": "step"},
        {"warmup_steps": -1},
        {"eps": 0},
        {"weight_decay": -1},
        {"gradient_clip": 0},
        {"momentum": 0.9},
        {"betas": (0.9, 1.0)},
        {"betas": (-0.1, 0.9)},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        OptimizerSettings(**wrong)
