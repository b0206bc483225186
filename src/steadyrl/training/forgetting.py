"""Likelihood of off-task texts at the evaluations of a run."""

from steadyrl.engines.protocol import Engine
from steadyrl.evaluation.drift import mean_loglikelihood
from steadyrl.learners.protocol import Learner
from steadyrl.training.evaluator import Evaluator
from steadyrl.training.journal import Journal
from steadyrl.training.stage import Stage

LOGLIKELIHOOD, DRIFT = "general_loglikelihood", "drift_loglikelihood"


async def measure_drift(
    stage: Stage,
    step: int,
    learner: Learner,
    engine: Engine,
    evaluator: Evaluator,
    journal: Journal,
) -> dict[str, float]:
    """The log-likelihood of the off-task texts after `step` steps, and its change since step 0.

    Saves the value of each text. Before the first step and after the last, the engine also answers
    the questions. Empty if no evaluation is due or there is no probe.
    """
    if evaluator.drift is None or not evaluator.is_due(stage, step):
        return {}
    answers = step in (0, stage.steps)
    scores = await evaluator.drift.measure(learner, engine if answers else None)
    if not scores:
        return {}
    journal.keep_drift(stage, step, [score.to_record() for score in scores])
    now = mean_loglikelihood(scores)
    begun = [row for row in journal.history(stage) if row["step"] == 0 and LOGLIKELIHOOD in row]
    start = begun[0][LOGLIKELIHOOD] if begun else (now if step == 0 else None)
    return {LOGLIKELIHOOD: now, **({} if start is None else {DRIFT: now - start})}
