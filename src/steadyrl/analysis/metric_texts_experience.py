"""The texts of the metrics that Experiential RL adds."""

from steadyrl.analysis.metric_text import MetricGroup, MetricText

EXPERIENCE_TEXTS = {
    "reward_reflected": MetricText(
        title="Reward of second attempts",
        meaning=(
            "Mean reward of the attempts that were guided by a reflection; the training reward is "
            "that of first attempts. Healthy: above it, since these attempts know more. Trouble: "
            "no higher than at the start while the training reward rises."
        ),
        log_scale=False,
        group=MetricGroup.EXPERIENCE,
    ),
    "reward_after_reflection": MetricText(
        title="Reward after reflection",
        meaning=(
            "Mean reward when every episode counts by its last attempt. Its distance from the "
            "training reward is what reflecting gains, and what is left to internalise. Healthy: "
            "above the training reward, which catches up with it."
        ),
        log_scale=False,
        group=MetricGroup.EXPERIENCE,
    ),
    "reflection_fraction": MetricText(
        title="Episodes with reflection",
        meaning=(
            "Share of episodes whose first attempt was to be reflected on. Behind the gate it is "
            "the share that failed, and falls as the policy learns."
        ),
        log_scale=False,
        group=MetricGroup.EXPERIENCE,
    ),
    "internalized_fraction": MetricText(
        title="Internalised episodes",
        meaning=(
            "Share of episodes whose second attempt succeeded and was learned without its "
            "reflection. Healthy: it rises as reflections become useful and falls as fewer are "
            "needed. At 0 nothing is internalised."
        ),
        log_scale=False,
        group=MetricGroup.EXPERIENCE,
    ),
    "memory_writes": MetricText(
        title="Writes into the memory",
        meaning=(
            "Reflections of a step that led to full reward and were remembered. At 0 over many "
            "steps, reflections have nothing to build on."
        ),
        log_scale=False,
        group=MetricGroup.EXPERIENCE,
    ),
    "failed_reflections": MetricText(
        title="Failed reflections",
        meaning=(
            "Episodes of a step whose reflection was malformed, too long or not to be had, or "
            "whose second attempt broke. Nothing of that is learned from; the completions say "
            "why. Usually few."
        ),
        log_scale=False,
        group=MetricGroup.EXPERIENCE,
    ),
    "reflection_length": MetricText(
        title="Reflection length",
        meaning=(
            "Mean number of tokens the policy sampled in a reflection. Trouble: a climb up to the "
            "budget, at which reflections fail, or a fall to almost nothing."
        ),
        log_scale=False,
        group=MetricGroup.EXPERIENCE,
    ),
    "second_attempt_length": MetricText(
        title="Second attempt length",
        meaning="Mean number of tokens the policy sampled in a second attempt.",
        log_scale=False,
        group=MetricGroup.EXPERIENCE,
    ),
}
