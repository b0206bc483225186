"""The texts of the metrics that compare engine and trainer."""

from steadyrl.report.metric_text import MetricGroup, MetricText

MISMATCH_TEXTS = {
    "mismatch_kl_k3": MetricText(
        title="Mismatch KL (k3)",
        meaning=(
            "How far the trainer's probabilities lie from the rollout engine's under the same "
            "weights; never negative and low in noise. Healthy: low and flat. Trouble: it climbs "
            "by orders of magnitude, as it does in runs that collapse."
        ),
        log_scale=True,
        group=MetricGroup.MISMATCH,
    ),
    "mismatch_kl_k1": MetricText(
        title="Mismatch KL (k1)",
        meaning=(
            "The same divergence as the mean log-ratio of engine to trainer, which is noisier and "
            "may be negative in a step; not to be compared with k3 in numbers. Healthy: near 0."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "extreme_token_fraction": MetricText(
        title="Extreme tokens",
        meaning=(
            "Share of tokens to which engine and trainer give probabilities that differ by more "
            "than a factor of 2. Healthy: below 1 in 1,000. Trouble: 1 in 10, seen in runs that "
            "collapse."
        ),
        log_scale=True,
        group=MetricGroup.MISMATCH,
    ),
    "surprisal_gap": MetricText(
        title="Surprisal gap",
        meaning=(
            "By how many nats the tokens drawn are more surprising than their reported "
            "probabilities make them on average. Healthy: around 0. Trouble: clearly below 0 from "
            "the first step, as when a sampling filter is left out of the log-probabilities."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "surprisal_gap_z": MetricText(
        title="Surprisal gap in standard errors",
        meaning=(
            "The surprisal gap in units of its sampling noise. Healthy: between -3 and 3 in "
            "nearly every step. Trouble: far outside, step after step."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "temperature_ratio": MetricText(
        title="Temperature ratio",
        meaning=(
            "The temperature of the engine over that of the trainer, as their probabilities show "
            "it. Healthy: within a few hundredths of 1. Off from the first step: the two are set "
            "differently. A steady climb: the engine does not get the trainer's new weights."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "temperature_share": MetricText(
        title="Mismatch by temperature",
        meaning=(
            "Share of the mismatch that the temperature ratio explains. Healthy: a few per cent, "
            "since rounding has no such pattern. Trouble: above a half, or a steady climb."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "routing_disagreement": MetricText(
        title="Routing disagreement",
        meaning=(
            "Share of (token, layer) positions at which engine and trainer choose different sets "
            "of experts. Some 0.1 is common when their numerics differ; a steady climb is trouble."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "routing_disagreement_any_layer": MetricText(
        title="Tokens routed differently",
        meaning=(
            "Share of tokens whose set of experts differs in at least one layer. It grows with "
            "depth: in a deep model a value near 1 is common, and 0 means identical routing."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "routing_disagreement_per_layer": MetricText(
        title="Routing disagreement by layer",
        meaning=(
            "The routing disagreement of each Mixture-of-Experts layer, the first at the bottom. "
            "Healthy: faint and even. A strong band is a layer in which the two often differ."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
}
