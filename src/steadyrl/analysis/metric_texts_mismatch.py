"""The texts of the metrics that compare engine and trainer."""

from steadyrl.analysis.bounds import (
    EXTREME_TOKENS,
    HALF,
    SMALLEST_TEMPERATURE,
    SURPRISAL_NOISE,
    TENFOLD,
)
from steadyrl.analysis.metric_text import MetricGroup, MetricText

MISMATCH_TEXTS = {
    "mismatch_kl_k3": MetricText(
        title="Mismatch KL (k3)",
        meaning=(
            "How far the trainer's probabilities lie from the rollout engine's under the same "
            f"weights; never negative and low in noise. Healthy: up to {TENFOLD:g} times its first "
            "steps. Runs that collapse climb by orders of magnitude."
        ),
        log_scale=True,
        group=MetricGroup.MISMATCH,
    ),
    "mismatch_kl_k1": MetricText(
        title="Mismatch KL (k1)",
        meaning=(
            "The same divergence as the mean log-ratio of engine to trainer, which is noisier and "
            "may be negative in a step; not to be compared with k3 in numbers. Usually near 0."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "extreme_token_fraction": MetricText(
        title="Extreme tokens",
        meaning=(
            "Share of tokens to which engine and trainer give probabilities that differ by more "
            "than a factor of 2. Most often below 0.01, and lower in float32. Healthy: up to "
            f"{EXTREME_TOKENS:g}, or twice the first steps where top-p makes for more; beyond it "
            "runs were seen to collapse."
        ),
        log_scale=True,
        group=MetricGroup.MISMATCH,
    ),
    "surprisal_gap": MetricText(
        title="Surprisal gap",
        meaning=(
            "By how many nats the tokens drawn are more surprising than their reported "
            "probabilities make them on average. Usually around 0. It is clearly below 0 from the "
            "first step where a sampling filter is left out of the log-probabilities."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "surprisal_gap_z": MetricText(
        title="Surprisal gap in standard errors",
        meaning=(
            "The surprisal gap in units of its sampling noise, most often between -2 and 2. "
            f"Healthy: between {-SURPRISAL_NOISE:g} and {SURPRISAL_NOISE:g}, or where the gap "
            "itself is small beside the entropy."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "temperature_ratio": MetricText(
        title="Temperature ratio",
        meaning=(
            "The temperature of the engine over that of the trainer, as their probabilities "
            f"show it. Healthy: within {SMALLEST_TEMPERATURE:g} of 1, or anywhere while it "
            f"explains less than {HALF:g} of the mismatch, for then it is noise. Off from the "
            "first step: the two are set differently. A steady climb: the engine does not get "
            "the trainer's new weights."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "temperature_share": MetricText(
        title="Mismatch by temperature",
        meaning=(
            "Share of the mismatch that the temperature ratio explains, most often a few per "
            f"cent, since rounding has no such pattern. Healthy: below {HALF:g} in the first "
            "steps, and no climb along with the mismatch."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
    "routing_disagreement": MetricText(
        title="Routing disagreement",
        meaning=(
            "Share of (token, layer) positions at which engine and trainer choose different sets "
            "of experts. Some 0.1 is common when their numerics differ. Healthy: up to "
            f"{HALF:g} in the first steps."
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
            "Usually faint and even. A strong band is a layer in which the two often differ."
        ),
        log_scale=False,
        group=MetricGroup.MISMATCH,
    ),
}
