"""Costs against sums that are worked out by hand."""

from dataclasses import replace

import pytest

from steadyrl.base.errors import UserError
from steadyrl.planning.costs import EngineCost, LearnerCost, rollout_seconds, sync_seconds
from steadyrl.planning.hardware import ACCELERATORS, CONSTANTS, Cluster, constant
from steadyrl.planning.lengths import ResponseLengths
from steadyrl.planning.shape import ModelShape
from steadyrl.planning.workload import TrainedRow, Workload

DENSE = ModelShape(
    name="dense",
    parameters=1_000,
    layers=2,
    width=8,
    vocabulary=10,
    dense_weights=800,
    expert_weights=0,
    head_weights=100,
    experts=0,
    experts_per_token=0,
    heads=2,
    kv_heads=1,
    attention_width=16,
    cached=4,
    layer_activations=100.0,
    tensors=10,
)
SPARSE = replace(DENSE, expert_weights=6400, parameters=7_400, experts=8, experts_per_token=2)
H100 = ACCELERATORS["H100"]
BANDWIDTH = H100.bandwidth * constant("bandwidth")


def engine(shape: ModelShape = DENSE, **changes: object) -> EngineCost:
    plain = EngineCost(shape=shape, accelerator=replace(H100, layer_seconds=0.0), itemsize=2)
    return replace(plain, **changes)


def workload(**changes: object) -> Workload:
    lengths = ResponseLengths(mean=10.0, maximum=10, spread=0.0)
    row = TrainedRow(length=12.0, computed=12.0, answered=10.0)
    plain = Workload(
        sequences=4, group=2, prompt=2, lengths=lengths, rows=(row,), updates=1,
        reference=False, steps_ahead=0,
    )  # fmt: skip
    return replace(plain, **changes)


def test_every_number_has_a_source() -> None:
    assert all(device.source for device in ACCELERATORS.values())
    assert all(constant.source and constant.about for constant in CONSTANTS.values())


@pytest.mark.parametrize("text", ["64", "x8", "8xH99", "0xH100", "H100"])
def test_what_is_not_a_cluster_is_refused_with_the_devices(text: str) -> None:
    with pytest.raises(UserError, match="H100"):
        Cluster.parse(text)


def test_a_cluster_is_a_number_and_a_device() -> None:
    cluster = Cluster.parse("64xh100")

    assert (cluster.devices, cluster.accelerator, str(cluster)) == (64, H100, "64xH100")


def test_one_token_reads_the_experts_that_it_chooses_and_many_read_all() -> None:
    assert SPARSE.read_weights(1.0) == pytest.approx(800 + 100 + 6400 * 2 / 8)
    assert SPARSE.read_weights(1000.0) == pytest.approx(800 + 100 + 6400)


def test_layers_with_a_window_cache_no_more_than_the_window() -> None:
    windowed = replace(DENSE, cached=4, windowed=12, window=100)

    assert windowed.cached_values(50.0) == 16 * 50
    assert windowed.cached_values(1000.0) == 4 * 1000 + 12 * 100


def test_decoding_reads_weights_and_the_cache_of_each_sequence() -> None:
    read = 2 * 900 + 3 * 2 * 4 * 50  # weights once; three caches of 50 positions with 4 numbers

    assert engine().decode_seconds(3.0, 50.0) == pytest.approx(read / BANDWIDTH)


def test_tensor_parallelism_divides_what_is_read_and_adds_reductions() -> None:
    sent = 3 * DENSE.width * 2 / H100.link  # twice half of three states of bfloat16
    reductions = 2 * DENSE.layers * (constant("all_reduce_seconds") + sent)
    alone = engine().decode_seconds(3.0, 50.0)

    assert engine(tensor_parallel=2).decode_seconds(3.0, 50.0) == pytest.approx(
        alone / 2 + reductions, rel=1e-9
    )


def test_a_rollout_takes_as_long_as_its_longest_response() -> None:
    free = engine(cache_itemsize=0)  # then a token takes the same time whatever has come before
    token = free.decode_seconds(1.0, 0.0)
    seconds = free.rollout_seconds([3.0, 10.0], prompt=0.0, group=1, slots=2)

    assert seconds == pytest.approx(10 * token)


def test_without_a_free_slot_a_sequence_waits() -> None:
    free = engine(cache_itemsize=0)
    token = free.decode_seconds(1.0, 0.0)
    seconds = free.rollout_seconds([3.0, 10.0], prompt=0.0, group=1, slots=1)

    assert seconds == pytest.approx(13 * token)


def test_rollouts_of_several_steps_at_once_share_the_wait_for_the_longest() -> None:
    free = engine(cache_itemsize=0)
    work = workload(lengths=ResponseLengths(mean=100.0, maximum=1000, spread=2.0))
    alone = rollout_seconds(free, work, engines=1, slots=64)
    together = rollout_seconds(free, work, engines=1, slots=64, together=4)

    assert together < 0.7 * alone


def test_an_update_computes_three_forward_passes_and_one_more_with_checkpointing() -> None:
    learner = LearnerCost(
        shape=DENSE, cluster=Cluster.parse("1xH100"), itemsize=2, micro_batch_tokens=1000,
        checkpointing=False,
    )  # fmt: skip
    forward = 2 * 800 * 48 + 2 * 100 * 40 + 2 * 16 * 4 * 12**2
    reached = H100.bfloat16 * constant("dense_training")
    optimizer = 28 * 1_000 / BANDWIDTH

    assert learner.update_seconds(workload()) == pytest.approx(3 * forward / reached + optimizer)
    again = replace(learner, checkpointing=True).update_seconds(workload())
    assert again == pytest.approx(4 * forward / reached + optimizer)


def test_ranks_that_wait_for_weights_take_as_long_as_gathering_them() -> None:
    cluster = Cluster.parse("16xH100")
    learner = LearnerCost(
        shape=replace(DENSE, parameters=10**9, layers=0), cluster=cluster, itemsize=2,
        micro_batch_tokens=1, checkpointing=False,
    )  # fmt: skip
    moved = 10**9 * (2 + 2 + 4)  # bfloat16 forward and backward, float32 gradients
    between = moved / 2 / (8 * H100.network)  # half of it enters each machine over 8 devices
    within = moved * 7 / 8 / H100.link
    gathering = max(between, within) / constant("links")
    optimizer = 28 * 10**9 / 16 / BANDWIDTH

    assert learner.update_seconds(workload()) == pytest.approx(gathering + optimizer)
    assert replace(learner, gathers=False).update_seconds(workload()) < gathering


def test_ranks_without_a_row_do_not_make_an_update_faster() -> None:
    def computing(devices: int, updates: int, *, gathers: bool = True) -> float:
        learner = LearnerCost(
            shape=replace(DENSE, parameters=0, layers=0), cluster=Cluster.parse(f"{devices}xH100"),
            itemsize=2, micro_batch_tokens=1000, checkpointing=False, gathers=gathers,
        )  # fmt: skip
        return learner.update_seconds(workload(updates=updates))

    rows = workload().sequences
    assert computing(rows, 1) == pytest.approx(computing(1, 1) / rows)
    assert computing(8 * rows, 1) == computing(rows, 1)
    assert computing(rows, 2) == pytest.approx(2 * computing(rows, 1))
    assert computing(8 * rows, 1, gathers=False) == pytest.approx(computing(rows, 1) / 8)


def test_the_first_mini_batch_needs_no_scoring_and_a_reference_scores_all() -> None:
    learner = LearnerCost(
        shape=replace(DENSE, layers=0), cluster=Cluster.parse("1xH100"), itemsize=2,
        micro_batch_tokens=1000, checkpointing=False,
    )  # fmt: skip
    whole = learner.scoring_seconds(workload(reference=True))

    assert learner.scoring_seconds(workload()) == 0
    assert learner.scoring_seconds(workload(updates=4)) == pytest.approx(0.75 * whole)


def test_a_sync_moves_the_weights_and_waits_for_each_tensor() -> None:
    cluster = Cluster.parse("16xH100")
    waiting = 10 * constant("tensor_seconds")
    apart = sync_seconds(DENSE, cluster, 2, shared=False)

    assert apart == pytest.approx(waiting + 2_000 / H100.network / constant("links"))
    assert sync_seconds(DENSE, cluster, 2, shared=True) < apart


@pytest.mark.parametrize("spread", [0.0, 0.6, 2.0])
def test_lengths_have_the_mean_that_is_asked_for_and_end_at_the_maximum(spread: float) -> None:
    lengths = ResponseLengths(mean=300.0, maximum=1000, spread=spread).quantiles(4096)

    assert sum(lengths) / len(lengths) == pytest.approx(300, rel=0.01)
    assert max(lengths) <= 1000
    assert (lengths[0] == lengths[-1]) == (spread == 0.0)
