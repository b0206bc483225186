import pytest
import torch
from benchmarks.performance.groups.growth import (
    FITTED_POINTS,
    PROMPT,
    Size,
    power_law,
    seconds_at,
    small_policy,
)

from steadyrl.engines.engine_model import EngineModel
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.reference import ReferenceEngine
from steadyrl.policies.numerics import Numerics, WeightScaling
from tests.driving import generate

CPU = torch.device("cpu")


def test_a_power_law_is_found_from_the_largest_sizes() -> None:
    # 3 * size^1.5, under a floor of 1000 that hides it at the smallest size.
    sizes = (1, 16, 64, 256, 1024)
    seconds = [1000.0, *(3 * size**1.5 for size in sizes[1:])]
    assert len(sizes) == FITTED_POINTS + 1

    assert power_law(sizes, seconds) == pytest.approx((1.5, 3.0))


def test_answers_have_exactly_the_length_asked_for() -> None:
    model = EngineModel(
        small_policy(Size(vocabulary=64), CPU),
        numerics=Numerics.FLOAT32,
        weight_scaling=WeightScaling.CHANNEL,
        record_routing=False,
    )
    request = Request(
        prompt_ids=torch.arange(2, 2 + PROMPT), num_completions=4, seed=0, sampling=Sampling()
    )

    (answers,) = generate(ReferenceEngine(model), [request], Sampling(max_new_tokens=12))

    assert [len(answer.token_ids) for answer in answers] == [12] * 4


@pytest.mark.slow
def test_a_longer_answer_takes_longer() -> None:
    short, long = (seconds_at(Size(length=length, group=2), CPU) for length in (4, 64))

    assert long["rollout"] > short["rollout"]
