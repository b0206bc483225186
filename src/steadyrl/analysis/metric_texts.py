"""What each metric means, in words. `docs/metrics.md` gives the same metrics with equations."""

from dataclasses import replace

from steadyrl.analysis.bounds import (
    HALF_THE_TOKENS,
    KL_OF_AN_UPDATE,
    MANY_FAILURES,
    REACHED,
    TENFOLD,
    TRUNCATED,
)
from steadyrl.analysis.metric_text import MetricGroup, MetricText
from steadyrl.analysis.metric_texts_experience import EXPERIENCE_TEXTS
from steadyrl.analysis.metric_texts_mismatch import MISMATCH_TEXTS
from steadyrl.analysis.metric_texts_outcome import OUTCOME_TEXTS
from steadyrl.analysis.metric_texts_speed import SPEED_TEXTS

__all__ = ["METRIC_TEXTS", "MetricGroup", "text_for"]


def text_for(name: str) -> MetricText:
    """The text of metric `name`; one that says so for a metric this package does not define.

    `reward/math` has that of `reward/NAME`, with `math` in its title.
    """
    family, _, part = name.partition("/")
    if part and (text := METRIC_TEXTS.get(f"{family}/NAME")):
        return replace(text, title=f"{text.title}: {part}")
    unknown = MetricText(
        title=name,
        meaning="Recorded by the run; it is not among the metrics that this package defines.",
        log_scale=False,
        group=MetricGroup.OTHER,
    )
    return METRIC_TEXTS.get(name, unknown)


METRIC_TEXTS = {
    **OUTCOME_TEXTS,
    **EXPERIENCE_TEXTS,
    "entropy": MetricText(
        title="Entropy",
        meaning=(
            "Mean entropy of the next-token distribution over the whole vocabulary, in nats. "
            "Healthy: a slow decline or a plateau. Trouble: a fast fall towards 0, after which "
            "nothing new is tried, or a climb without end."
        ),
        log_scale=False,
        group=MetricGroup.POLICY,
    ),
    "response_length": MetricText(
        title="Response length",
        meaning=(
            "Mean number of tokens the policy sampled in an episode. Healthy: slow drift. "
            "Trouble: a jump up to the token budget, where answers are cut off, or a fall to "
            "almost nothing."
        ),
        log_scale=False,
        group=MetricGroup.POLICY,
    ),
    "truncated_fraction": MetricText(
        title="Cut short",
        meaning=(
            "Share of episodes cut short, mostly by the token budget. The fewer the better. "
            f"Healthy: up to {TRUNCATED:g}; beyond it the budget decides what an episode earns."
        ),
        log_scale=False,
        group=MetricGroup.POLICY,
    ),
    "environment_failed_fraction": MetricText(
        title="Broken by the environment",
        meaning=(
            "Share of episodes that an exception of the environment ended, such as a retriever "
            "that does not answer. Nothing is learned from them. Most often 0. Healthy: up to "
            f"{MANY_FAILURES:g}."
        ),
        log_scale=False,
        group=MetricGroup.POLICY,
    ),
    **MISMATCH_TEXTS,
    "staleness": MetricText(
        title="Staleness",
        meaning=(
            "By how many weight versions the trainer is ahead of the engine that wrote the tokens. "
            "0 with one gradient step per rollout, (N - 1) / 2 with N; it should not change."
        ),
        log_scale=False,
        group=MetricGroup.CORRECTION,
    ),
    "staleness_kl_k3": MetricText(
        title="Staleness KL (k3)",
        meaning=(
            "How far the policy has moved from the weights it started the step with. 0 with one "
            f"gradient step per rollout. Healthy: up to {KL_OF_AN_UPDATE:g} nats for each "
            "update, which grows with their number as docs/diagnose.md says. Beyond it, take "
            "fewer gradient steps per rollout or a lower learning rate."
        ),
        log_scale=True,
        group=MetricGroup.CORRECTION,
    ),
    "reference_kl": MetricText(
        title="Distance from the reference",
        meaning=(
            "How far the policy has moved from the weights with which the stage began, where a "
            "penalty holds it to them. Healthy: a rise that slows down. Trouble: a climb without "
            "end, against which the penalty is too weak."
        ),
        log_scale=True,
        group=MetricGroup.CORRECTION,
    ),
    "ess": MetricText(
        title="Effective sample size",
        meaning=(
            "Share of the tokens that effectively count once importance weights are applied. "
            f"Most often near 1. Healthy: {HALF_THE_TOKENS:g} and above; below it a few tokens "
            "speak for all."
        ),
        log_scale=False,
        group=MetricGroup.CORRECTION,
    ),
    "truncated_weight_fraction": MetricText(
        title="Truncated weights",
        meaning=(
            "Share of tokens whose importance weight was cut at the cap. Usually close to 0. A "
            "rise says that the correction no longer holds for those tokens."
        ),
        log_scale=False,
        group=MetricGroup.CORRECTION,
    ),
    "clip_fraction_low": MetricText(
        title="Clipped below",
        meaning=(
            "Share of tokens with a negative advantage that were already made unlikely enough and "
            "pass no gradient. Usually a few per cent at most. A rise says the updates are large."
        ),
        log_scale=False,
        group=MetricGroup.CORRECTION,
    ),
    "clip_fraction_high": MetricText(
        title="Clipped above",
        meaning=(
            "Share of tokens with a positive advantage that were already made likely enough and "
            "pass no gradient. Usually a few per cent at most. A rise says the updates are large."
        ),
        log_scale=False,
        group=MetricGroup.CORRECTION,
    ),
    "masked_fraction": MetricText(
        title="Masked tokens",
        meaning=(
            "Share of tokens that the correction leaves out, because engine and trainer disagree "
            "on them too far. Usually close to 0. Nothing is learned there, so a rise costs data."
        ),
        log_scale=False,
        group=MetricGroup.CORRECTION,
    ),
    "loss": MetricText(
        title="Loss",
        meaning=(
            "What the optimiser minimised. In a cold start it is the negative log-likelihood of "
            "the demonstrations and should fall and level off. In reinforcement learning its size "
            "says little: read the reward instead."
        ),
        log_scale=False,
        group=MetricGroup.OPTIMISATION,
    ),
    "gradient_norm": MetricText(
        title="Gradient norm",
        meaning=(
            "Length of the gradient of all parameters before it is clipped. Healthy: up to "
            f"{TENFOLD:g} times its first steps, but for single spikes."
        ),
        log_scale=True,
        group=MetricGroup.OPTIMISATION,
    ),
    "learning_rate": MetricText(
        title="Learning rate",
        meaning=(
            "The optimiser's step size, as scheduled. It should look like the schedule that was "
            "asked for."
        ),
        log_scale=False,
        group=MetricGroup.OPTIMISATION,
    ),
    "update_reached_fraction": MetricText(
        title="Update that reached the weights",
        meaning=(
            "Movement of the weights that sample and are differentiated, as a share of their "
            f"float32 masters' movement. Most often near 1. Healthy: {REACHED:g} and above; "
            "below it rounding to a lower precision loses most of what is learned."
        ),
        log_scale=False,
        group=MetricGroup.OPTIMISATION,
    ),
    "engine_update_reached_fraction": MetricText(
        title="Update that reached the engine",
        meaning=(
            "Movement of the engine's weights at its last load, as a share of the trainer's. "
            f"Most often near 1, with noise in FP8. Healthy: {REACHED:g} and above; below it "
            "rounding keeps from the engine what the trainer learns."
        ),
        log_scale=False,
        group=MetricGroup.OPTIMISATION,
    ),
    "weights_changed_fraction": MetricText(
        title="Weights that changed",
        meaning=(
            "Share of the weights to which an optimizer step gave another value. In float32 it is "
            "close to 1; in bfloat16 it falls with the learning rate, and says little alone: read "
            "the update that reached the weights."
        ),
        log_scale=False,
        group=MetricGroup.OPTIMISATION,
    ),
    "gradient_steps": MetricText(
        title="Gradient steps",
        meaning="Optimiser steps taken on the step's rollout: one for each of its mini-batches.",
        log_scale=False,
        group=MetricGroup.OPTIMISATION,
    ),
    "responses": MetricText(
        title="Responses",
        meaning=(
            "Responses sampled in the step: one for each turn of an attempt, and one for each "
            "reflection. Their sum is what runs of different algorithms are compared at."
        ),
        log_scale=False,
        group=MetricGroup.OPTIMISATION,
    ),
    **SPEED_TEXTS,
}
