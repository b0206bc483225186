"""The texts of the metrics that say where the time goes."""

from steadyrl.analysis.metric_text import MetricGroup, MetricText

SPEED_TEXTS = {
    "rollout_tokens_per_second": MetricText(
        title="Rollout speed",
        meaning=(
            "Tokens the engine sampled per second. It moves with response length and batch size. A "
            "fall at equal length says that the engine is starved or shares its device."
        ),
        log_scale=False,
        group=MetricGroup.SPEED,
    ),
    "scoring_tokens_per_second": MetricText(
        title="Scoring speed",
        meaning=(
            "Tokens per second whose probability the trainer recomputed under the old weights. It "
            "should be flat; it falls when rows are padded more."
        ),
        log_scale=False,
        group=MetricGroup.SPEED,
    ),
    "update_tokens_per_second": MetricText(
        title="Update speed",
        meaning=(
            "Tokens per second that went forward and backward through the trainer. It should be "
            "flat; it falls when rows are padded more or micro-batches are small."
        ),
        log_scale=False,
        group=MetricGroup.SPEED,
    ),
    "seconds": MetricText(
        title="Time a step",
        meaning=(
            "Wall time of rollout, scoring and updates in seconds; evaluations are not in it. It "
            "should follow the response length; look for other work on the machine under a spike."
        ),
        log_scale=False,
        group=MetricGroup.SPEED,
    ),
    "rollout_seconds": MetricText(
        title="Time of the rollout",
        meaning=(
            "Wall time of sampling and of judging what was sampled, in seconds. It should follow "
            "the response length; where it does not, look at the environment."
        ),
        log_scale=False,
        group=MetricGroup.SPEED,
    ),
    "scoring_seconds": MetricText(
        title="Time of scoring",
        meaning=(
            "Wall time of recomputing probabilities under the old weights, in seconds. It should "
            "follow the response length."
        ),
        log_scale=False,
        group=MetricGroup.SPEED,
    ),
    "update_seconds": MetricText(
        title="Time of the updates",
        meaning=(
            "Wall time of forward and backward passes and optimizer steps, in seconds. It should "
            "follow the response length; it falls when fewer rows have signal."
        ),
        log_scale=False,
        group=MetricGroup.SPEED,
    ),
    "evaluation_seconds": MetricText(
        title="Time of the evaluation",
        meaning=(
            "Wall time of measuring the held-out score, in seconds, in the steps that do. Evaluate "
            "fewer tasks, or less often, if it is large beside the time of the steps between."
        ),
        log_scale=False,
        group=MetricGroup.SPEED,
    ),
}
