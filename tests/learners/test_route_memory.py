"""Routes exist once, from the engine to the metrics."""

import pytest

from tests.learners.route_flow import CHOSEN, LAYERS, flow
from tests.memory import LiveStorage


@pytest.mark.parametrize(
    ("sequences", "length", "block_bytes"),
    [(192, 320, 1 << 11), pytest.param(512, 4096, 1 << 14, marks=pytest.mark.slow)],
)
def test_a_step_takes_little_more_memory_than_its_routes(
    sequences: int, length: int, block_bytes: int
) -> None:
    routes = sequences * length * LAYERS * CHOSEN
    with LiveStorage() as memory:
        disagreement = flow(sequences, length, block_bytes=block_bytes)
    # What else there is of a token, in the answer, the batch and the metrics, takes some 50 bytes.
    assert routes < memory.peak < 1.15 * routes
    assert disagreement.tokens > 0.9 * sequences * length
    assert disagreement.mean == 0


@pytest.mark.slow
def test_routes_of_the_trainer_take_as_much_again() -> None:
    routes = 128 * 256 * LAYERS * CHOSEN
    with LiveStorage() as memory:
        disagreement = flow(128, 256, block_bytes=1 << 11, record_old=True)
    assert 2 * routes < memory.peak < 1.15 * 2 * routes
    assert disagreement.mean == 1  # every choice is shifted by one expert
