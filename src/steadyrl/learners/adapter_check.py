"""Check of a LoRA adapter before the first step: is it applied, by the trainer and by the engine?

    zero adapter      the trainer scores a probe as with the base alone
    random adapter    the trainer scores it otherwise, and the engine, after a sync, as the trainer

An adapter that is not applied trains nothing, or samples from the base for the whole run, without
an error. With zeros, the engine's difference from the trainer is judged as at the first sync of a
canary; with random numbers, by how far these moved the trainer, since engines round merged weights.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.engines.canary import MIN_DIFFERENCE, Canary, CanaryError, CanarySettings, read_engine
from steadyrl.engines.protocol import Engine
from steadyrl.learners.adapted_model import AdaptedModel
from steadyrl.learners.local import LocalLearner
from steadyrl.policies.lora import randomize

SHARES = (0.05, 0.2, 0.8, 3.2)
"""Norms of the random adapter's part of each weight, as shares of the weight's norm."""

CLEAR = 10.0
"""The smallest share is used that moves the trainer by this many times the engine's difference."""

AGREEMENT = 0.3
"""Maximum distance of engine and trainer, as a share of what the random adapter moved."""


async def check_adapter(
    learner: LocalLearner,
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
    part = learner.trained
    assert isinstance(part, AdaptedModel)
    kept = {name: weight.detach().clone() for name, weight in part.parameters().items()}
    try:
        moved, apart = await _check(learner, part, engine, probes, settings)
    finally:
        _restore(part, kept)
    await engine.sync(learner.publish())
    trained = sum(weight.numel() for weight in kept.values())
    whole = sum(weight.numel() for weight in learner.policy.model.parameters()) - trained
    agreement = "" if apart is None else f", and the engine agreed with it to {apart:.2g}"
    return (
        f"LoRA trains {trained:,} weights beside {whole:,} frozen ones. Before the first step, a "
        f"random adapter moved the trainer's log-probabilities of a probe by {moved:.2g} "
        f"nats{agreement}."
    )


async def _check(
    learner: LocalLearner,
    part: AdaptedModel,
    engine: Engine,
    probes: Sequence[Int[Tensor, " T"]],
    settings: CanarySettings,
) -> tuple[float, float | None]:
    """Effect of the random adapter on the trainer, and the distance of the engine from it."""
    with torch.no_grad():
        for name, weight in part.parameters().items():
            if "lora_B" in name:
                weight.zero_()
    zero = _scores(learner, probes)
    with part.adapter.using(None):
        base = _scores(learner, probes)
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
        randomize(learner.policy.model, share=share, seed=0)
        random = _scores(learner, probes)
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
    learner: LocalLearner,
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


def _scores(learner: LocalLearner, probes: Sequence[Int[Tensor, " T"]]) -> Float[Tensor, " N"]:
    """The trainer's log-probabilities of all tokens of the probes but their first ones."""
    tokens = torch.stack(list(probes)).to(learner.policy.device)
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    with torch.no_grad():
        scores = learner.policy.score(tokens, everywhere, everywhere)
    return scores.logprobs[:, 1:].flatten().float().cpu()


@torch.no_grad()
def _restore(part: AdaptedModel, kept: dict[str, Tensor]) -> None:
    for name, weight in part.parameters().items():
        weight.copy_(kept[name])


def _difference(left: Float[Tensor, " N"], right: Float[Tensor, " N"]) -> float:
    return float((left - right).abs().double().quantile(0.75))
