"""Update: our learner against a bare PyTorch loop, and what groups without signal save."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from benchmarks.performance.context import Context
from benchmarks.performance.peers.bare_loop import BareLoop
from benchmarks.performance.records import Measured, Row, attempt, exact
from benchmarks.performance.timing import Sample, interleaved, summary, time_ratio, timed
from benchmarks.performance.workloads import small_and_large
from benchmarks.performance.worlds import World
from torch import Tensor

from steadyrl.algorithms.policy_gradient import PolicyGradient, PolicyGradientSettings
from steadyrl.engines.driver import drive
from steadyrl.learners.local import LocalLearner, LocalLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.learners.settings import LearnerSettings
from steadyrl.policies.passes import plan_passes
from steadyrl.records.routing import RoutingReplay
from steadyrl.records.token_batch import TokenBatch

ROUNDS = {"W1": 9, "W2": 2}

COMPARED_ROWS = 64
"""Of which the gradient is compared."""

STRICT = LocalLearnerSettings(measure_skipped=False)
"""Rows without signal are not even scored."""

NO_CLIPPING = 1e9
"""Gradients are compared as they are, and the bare loop does not clip."""


def rows(context: Context) -> Iterator[Row]:
    """W1 and W2."""
    for world in small_and_large(context):
        yield from rows_of(world, context)


def rows_of(world: World, context: Context) -> Iterator[Row]:
    """One workload: all groups with signal, then half of them."""
    key, rounds = f"update-{world.name.lower()}", context.rounds(ROUNDS[world.name])
    full = with_signal(rollout_batch(world), every=1)
    half = with_signal(full, every=2)
    bare, update = BareUpdate(world, full), OurUpdate(world, STRICT)
    measured = OurUpdate(world, LocalLearnerSettings())
    samples = interleaved(
        {
            "bare": bare,
            "full": partial(update, full),
            "half": partial(update, half),
            "half, metrics of all rows": partial(measured, half),
        },
        rounds=rounds,
        warmups=1 if world.name == "W1" else 0,
    )
    what = f"update, {world.name}"
    for suffix, text, ours, peer in (
        ("bare", "all groups with signal, against the bare loop", "full", "bare"),
        ("half", "half of the groups without signal, against all with", "half", "full"),
        (
            "half-measured",
            "the same, with metrics of every row",
            "half, metrics of all rows",
            "full",
        ),
    ):
        compare = partial(ratio, samples[ours], samples[peer])
        yield attempt(f"{key}-{suffix}", f"{what}, {text}", compare)
    yield attempt(
        f"{key}-half-gradients",
        f"{what}, gradient with rows left out against that with them",
        partial(_gradient_difference, world, first_rows(half, COMPARED_ROWS)),
    )


def rollout_batch(world: World, *, record_routing: bool = False) -> TokenBatch:
    """One rollout of our engine as the rows that the learner gets."""
    policy = world.policy()
    engine = world.engine(policy, record_routing=record_routing)
    algorithm = policy_gradient(world)
    rollout = drive(algorithm.play(algorithm.plan(0), engine))
    ((batch,),) = algorithm.learn(rollout).mini_batches
    return batch


def policy_gradient(world: World) -> PolicyGradient:
    """MiniRL on the workload."""
    return PolicyGradient(
        PolicyGradientSettings(prompts=world.prompts, group_size=world.group_size),
        environment=world.environment,
        tokenizer=world.tokenizer(),
        sampling=world.sampling,
        seed=0,
    )


def with_signal(batch: TokenBatch, *, every: int) -> TokenBatch:
    """`batch` with an advantage of 1 or -1 on each row of every `every`-th group, 0 elsewhere."""
    signs = torch.ones(len(batch))
    signs[1::2] = -1
    signs[batch.group_ids % every != 0] = 0
    return replace(batch, advantages=signs[:, None] * batch.loss_mask)


def first_rows(batch: TokenBatch, count: int) -> TokenBatch:
    """As many rows of `batch`, or all there are."""
    return batch.rows(torch.arange(min(count, len(batch))))


class OurUpdate:
    """Optimiser steps of our learner."""

    def __init__(
        self,
        world: World,
        settings: LearnerSettings,
        *,
        replay: RoutingReplay = RoutingReplay.NONE,
    ) -> None:
        settings = settings.model_copy(
            update={
                "dtype": str(world.dtype).removeprefix("torch."),
                "device": world.device.type,
                "micro_batch_tokens": world.micro_batch_tokens,
            }
        )
        self._device = world.device
        self._algorithm = policy_gradient(world)
        self.learner = LocalLearner(world.policy(), settings, replay=replay)
        optimizer = OptimizerSettings(learning_rate=world.learning_rate, gradient_clip=NO_CLIPPING)
        self.learner.begin_stage(optimizer, world.sampling.temperature, fresh=True)

    def __call__(self, batch: TokenBatch) -> Sample:
        """One timed step; its tokens are those of the responses."""
        terms = self._algorithm.loss_terms((batch,))

        def work() -> int:
            self.learner.update(terms, step=0, steps=1)
            return int(batch.loss_mask.sum())

        return timed(work, self._device)

    def gradients(self) -> Tensor:
        """The last step's gradient, all weights in one row."""
        gradients = self.learner.optimizer.gradients()
        return torch.cat([gradients[name].flatten() for name in sorted(gradients)])


class BareUpdate:
    """Steps of the bare loop on passes over rows of like length."""

    def __init__(self, world: World, batch: TokenBatch) -> None:
        plan = plan_passes(batch.lengths, world.micro_batch_tokens, pass_cost=STRICT.pass_cost)
        self._micro_batches = [batch.rows(index) for index in plan]
        self._loop = BareLoop(world.model(), world.learning_rate)
        self._device = world.device

    def __call__(self) -> Sample:
        """One timed step."""
        return timed(partial(self._loop.update, self._micro_batches), self._device)


def ratio(ours: list[Sample], peer: list[Sample]) -> Measured:
    """Our time over the peer's."""
    return Measured(
        value=time_ratio(ours, peer),
        unit="x its time",
        details={
            "ours": summary(ours),
            "peer": summary(peer),
            "by_processor_time": time_ratio(ours, peer, clock="processor_seconds").median,
        },
    )


def _gradient_difference(world: World, half: TokenBatch) -> Measured:
    """The largest difference of two gradients from equal weights, over the largest entry."""
    with_all = OurUpdate(world, LocalLearnerSettings(skip_no_signal=False))
    without = OurUpdate(world, STRICT)
    with_all(half)
    without(half)
    expected = with_all.gradients()
    difference = (without.gradients() - expected).abs().max() / expected.abs().max()
    return Measured(
        value=exact(difference.item()), unit="relative, largest entry against largest difference"
    )
