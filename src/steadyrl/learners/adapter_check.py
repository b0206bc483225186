"""Check of a LoRA adapter before the first step: is it applied, by the trainer and by the engine?

    zero adapter      the trainer scores a probe as with the base alone
    random adapter    the trainer scores it otherwise, and the engine, after a sync, as the trainer

An adapter that is not applied trains nothing, or samples from the base for the whole run, without
an error. With zeros, the engine's difference from the trainer is judged as at the first sync of a
canary; with random numbers, by how far these moved the trainer, since engines round merged weights.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.engines.canary import MIN_DIFFERENCE, Canary, CanaryError, CanarySettings, read_engine
from steadyrl.engines.protocol import Engine
from steadyrl.learners.adapted_model import AdapterContent
from steadyrl.learners.probe_scores import probe_scores
from steadyrl.learners.protocol import Learner

SHARES = (0.05, 0.2, 0.8, 3.2)
"""Norms of the random adapter's part of each weight, as shares of the weight's norm."""

CLEAR = 10.0
"""The smallest share is used that moves the trainer by this many times the engine's difference."""

AGREEMENT = 0.3
"""Maximum distance of engine and trainer, as a share of what the random adapter moved."""


@runtime_checkable
class TrainsAdapter(Learner, Protocol):
    """A learner whose adapter can be filled for a check."""

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens that the policy knows."""
        ...

    def adapter_sizes(self) -> tuple[int, int]:
        """Number of the adapter's weights, and of those of its base."""
        ...

    def fill_adapter(self, content: AdapterContent) -> None:
        """Fills the adapter. The last content must be `own`."""
        ...


async def check_adapter(
    learner: TrainsAdapter,
    engine: Engine,
    probes: Sequence[Int[Tensor, " T"]],
    settings: CanarySettings,
) -> str:
    """Checks the learner's adapter, and leaves learner and engine with its present weights.

    Returns:
        A note about the adapter's size and the differences measured.

    Raises:
        UserError: the adapter is not applied by the trainer, or by the engine.
    """
    try:
        moved, apart = await _check(learner, engine, probes, settings)
    finally:
        learner.fill_adapter("own")
    await engine.sync(learner.publish())
    trained, whole = learner.adapter_sizes()
    agreement = "" if apart is None else f", and the engine agreed with it to {apart:.2g}"
    return (
        f"LoRA trains {trained:,} weights beside {whole:,} frozen ones. Before the first step, a "
        f"random adapter moved the trainer's log-probabilities of a probe by {moved:.2g} "
        f"nats{agreement}."
    )


async def _check(
    learner: TrainsAdapter,
    engine: Engine,
    probes: Sequence[Int[Tensor, " T"]],
    settings: CanarySettings,
) -> tuple[float, float | None]:
    """Effect of the random adapter on the trainer, and the distance of the engine from it."""
    learner.fill_adapter("zeros")
    zero = probe_scores(learner, probes)
    learner.fill_adapter("base")
    base = probe_scores(learner, probes)
    learner.fill_adapter("zeros")
    if _difference(zero, base) > MIN_DIFFERENCE:
        raise UserError(
            f"An adapter of zeros changes the trainer's log-probabilities by "
            f"{_difference(zero, base):.2g} nats. Install the version of peft in constraints.txt, "
            "or leave learner.lora out."
        )
    apart = 0.0
    if engine.capabilities.scoring:
        apart = await _compare(settings, learner, engine, probes, zero, "zeros")
    for share in SHARES:
        learner.fill_adapter(share)
        random = probe_scores(learner, probes)
        moved = _difference(random, zero)
        if moved > CLEAR * max(MIN_DIFFERENCE, apart):
            break
    if moved <= MIN_DIFFERENCE:
        raise UserError(
            f"A random adapter changes the trainer's log-probabilities by only {moved:.2g} nats: "
            "it is not applied. Name other layers in learner.lora.targets, or install the version "
            "of peft in constraints.txt."
        )
    if not engine.capabilities.scoring:
        return moved, None
    apart = await _compare(settings, learner, engine, probes, random, "random numbers")
    if apart > max(MIN_DIFFERENCE, AGREEMENT * moved):
        raise _disagreement(
            "random numbers",
            f"They are {apart:.2g} nats apart, and the adapter moved the trainer by {moved:.2g}.",
        )
    return moved, apart


async def _compare(
    settings: CanarySettings,
    learner: TrainsAdapter,
    engine: Engine,
    probes: Sequence[Int[Tensor, " T"]],
    scores: Float[Tensor, " N"],
    content: str,
) -> float:
    weights = learner.publish()
    await engine.sync(weights)
    try:
        reading = await read_engine(engine, probes)
        metrics = Canary(settings).compare(reading, scores, weights.version)
    except CanaryError as error:
        raise _disagreement(content, str(error)) from error
    return metrics["canary_difference"]


def _disagreement(content: str, reason: str) -> UserError:
    return UserError(
        f"With an adapter of {content}, the engine does not compute what the trainer does. "
        f"{reason} Use engine 'local', or with vLLM leave engine.adapter_rank out: it then gets "
        "merged weights."
    )


def _difference(left: Float[Tensor, " N"], right: Float[Tensor, " N"]) -> float:
    return float((left - right).abs().double().quantile(0.75))
