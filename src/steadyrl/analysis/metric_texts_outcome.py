"""The texts of the metrics that say whether a run learns."""

from steadyrl.analysis.bounds import FORGOTTEN, MANY_FAILURES, WITHOUT_SIGNAL
from steadyrl.analysis.metric_text import MetricGroup, MetricText

OUTCOME_TEXTS = {
    "score": MetricText(
        title="Held-out score",
        meaning=(
            "Mean accuracy on tasks never trained on, over several answers a task (avg@k). "
            "Healthy: it rises with the training reward. Trouble: it falls while the reward still "
            "rises."
        ),
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
    "score_low": MetricText(
        title="Held-out score, lower end",
        meaning=(
            "Lower end of the 95% interval of the held-out score, in which each task counts once. "
            "Scores whose intervals overlap widely may differ by chance; more tasks narrow it."
        ),
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
    "score_high": MetricText(
        title="Held-out score, upper end",
        meaning="Upper end of the 95% interval of the held-out score.",
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
    "score_pass_at_k": MetricText(
        title="Held-out pass@k",
        meaning=(
            "Share of held-out tasks that at least one of k answers solves. Healthy: it keeps up "
            "with the score. Trouble: it falls while the score rises, as variety is lost."
        ),
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
    "score/NAME": MetricText(
        title="Part of the held-out score",
        meaning=(
            "Mean of one of several rewards on held-out tasks, before its weight. Where the score "
            "rises and the part that says whether an answer is right does not, the policy learns "
            "the other parts in its place."
        ),
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
    "score_failed_fraction": MetricText(
        title="Held-out episodes that broke",
        meaning=(
            "Share of held-out episodes that an exception of the environment ended. They are left "
            f"out of score and pass@k. Most often 0. Healthy: up to {MANY_FAILURES:g}."
        ),
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
    "score_failed_tasks": MetricText(
        title="Held-out tasks that broke",
        meaning=(
            "Number of held-out tasks that the environment failed in every episode of. They are "
            "left out of the score. Usually 0."
        ),
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
    "general_loglikelihood": MetricText(
        title="Log-likelihood of general texts",
        meaning=(
            "Mean log-likelihood per token that the policy gives to a few fixed answers and "
            "paragraphs, which have nothing to do with its tasks. Read its change."
        ),
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
    "drift_loglikelihood": MetricText(
        title="Drift of general texts",
        meaning=(
            "Change of the log-likelihood of general texts since the stage began, in nats per "
            f"token. It has no sampling noise. Healthy: {-FORGOTTEN:g} and above; below it the "
            "policy forgets what it was not trained on."
        ),
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
    "reward": MetricText(
        title="Training reward",
        meaning=(
            "Mean reward of the episodes sampled in a step. Healthy: a noisy, steady rise. "
            "Trouble: a sudden fall that does not recover, which is how a collapse looks."
        ),
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
    "reward/NAME": MetricText(
        title="Part of the training reward",
        meaning=(
            "Mean of one of several rewards in the episodes sampled in a step, before its weight. "
            "It shows which of them the policy learns."
        ),
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
    "no_signal_fraction": MetricText(
        title="Groups without signal",
        meaning=(
            "Share of groups whose rewards are all equal, so that every advantage is 0 and "
            f"nothing is learned from them. Healthy: below {WITHOUT_SIGNAL:g} in some step. "
            "Where every step lies above, the tasks are too easy or too hard."
        ),
        log_scale=False,
        group=MetricGroup.OUTCOME,
    ),
}
