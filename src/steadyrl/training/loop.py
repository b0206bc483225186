"""The training loop.

    rollout -> learn -> score -> update (once per mini-batch) -> weights to the engine -> evaluate

Rollouts come from a queue, which may sample them ahead of the updates. All random numbers are
functions of the seed and the position, so a run that is resumed from a checkpoint takes the same
steps as one that was never interrupted.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from steadyrl.algorithms.protocol import Experience, MiniBatch, Rollout, SupportsReference
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.engines.protocol import Engine, SupportsSyncMeasurement
from steadyrl.evaluation.accuracy import Accuracy
from steadyrl.learners.protocol import Learner, Update
from steadyrl.objectives.measurements import TokenMeasurements, policy_metrics
from steadyrl.records.trajectory import Group
from steadyrl.rollout.row_splits import split_note
from steadyrl.training.checked_engine import CheckedEngine
from steadyrl.training.checkpointer import Checkpointer
from steadyrl.training.evaluator import Evaluator
from steadyrl.training.failures import (
    note_failed_evaluation,
    note_failures,
    note_restarts,
    require_played,
)
from steadyrl.training.forgetting import measure_drift
from steadyrl.training.journal import Journal
from steadyrl.training.rollout_queue import RolloutQueue
from steadyrl.training.sampler import Sampler
from steadyrl.training.signal_notes import note_signals
from steadyrl.training.stage import RunPosition, Stage
from steadyrl.training.staleness import rescored_metrics, staleness_metrics
from steadyrl.training.stopwatch import Stopwatch


async def train(
    stages: Sequence[Stage],
    learner: Learner,
    engine: Engine,
    sampler: Sampler,
    evaluator: Evaluator,
    journal: Journal,
    checkpointer: Checkpointer,
    start: RunPosition,
    progress: Progress = NO_PROGRESS,
) -> None:
    """Takes all steps of `stages` from `start` on, and reports to `progress`."""
    for number, stage in enumerate(stages[start.stage :], start=start.stage):
        first = start.step if number == start.stage else 0
        await begin_stage(number, stage, learner, engine, sampler, checkpointer, fresh=first == 0)
        if first == 0 and stage.evaluate_every is not None:
            await evaluate_at_first(stage, engine, evaluator, journal, progress, learner)
        queue = RolloutQueue(
            sampler,
            number,
            first,
            max_staleness=stage.max_staleness,
            is_boundary=partial(checkpointer.is_due, stage),
        )
        for step in range(first, stage.steps):
            choose_routing_replay(stage, step, learner, journal)
            watch = Stopwatch(progress, stage=stage.name, step=step + 1, steps=stage.steps)
            samples = stage.algorithm.samples_from_engine
            with watch.measure("rollout", phase=None if samples else "demonstrations"):
                rollout = await queue.take()
            rescored = await rescored_metrics(rollout, engine, stage.rescored_groups)
            metrics, experience = await train_step(stage, step, rollout, learner, engine, watch)
            metrics |= rescored
            checkpointer.advance()
            require_played(stage, metrics, rollout.groups, journal)
            note_failures(stage, step + 1, rollout.groups, rollout.failures, journal)
            note_prompts_too_long(stage, step + 1, rollout.groups, journal)
            accuracy = await evaluate(stage, step + 1, engine, evaluator, watch)
            if accuracy is not None and evaluator.drift is not None:
                with watch.measure("evaluation"):
                    metrics |= await measure_drift(
                        stage, step + 1, learner, engine, evaluator, journal
                    )
            metrics |= watch.seconds("evaluation")
            metrics |= note_restarts(stage, step + 1, engine, journal)
            record_step(stage, step + 1, metrics, rollout, experience, accuracy, journal)
            if checkpointer.is_due(stage, step + 1):
                progress.begin("checkpoint", stage=stage.name, step=step + 1, steps=stage.steps)
                position = RunPosition(stage=number, step=step + 1)
                state, waiting = sampler.state(number), sampler.waiting(number)
                checkpointer.save(stage, position, learner, state, waiting)
        checkpointer.complete()


async def begin_stage(
    number: int,
    stage: Stage,
    learner: Learner,
    engine: Engine,
    sampler: Sampler,
    checkpointer: Checkpointer,
    *,
    fresh: bool,
) -> None:
    """Prepares learner, engine and sampler for a stage.

    Args:
        fresh: The stage starts at its first step rather than at a checkpoint.
    """
    learner.begin_stage(stage.optimizer, stage.temperature, fresh=fresh)
    checkpointer.load_reference(stage, learner, fresh=fresh)
    if stage.needs_reference and isinstance(stage.algorithm, SupportsReference):
        await sampler.take_reference(number, learner.publish_reference())
    if isinstance(engine, CheckedEngine):
        engine.begin_stage()
    await engine.sync(learner.publish())


def record_step(
    stage: Stage,
    step: int,
    metrics: Mapping[str, Any],
    rollout: Rollout,
    experience: Experience,
    accuracy: Accuracy | None,
    journal: Journal,
) -> None:
    """Records the last of `step` steps, and notes what stands out in it."""
    journal.record(stage, step, metrics, rollout.groups, accuracy)
    note_signals(stage, step, journal)
    if accuracy is not None:
        note_failed_evaluation(stage, step, accuracy, journal)
    journal.remember(stage, step, rollout.memory_writes)
    for text in experience.notes:
        journal.note_once(stage, step, text)


async def train_step(
    stage: Stage,
    step: int,
    rollout: Rollout,
    learner: Learner,
    engine: Engine,
    watch: Stopwatch | None = None,
) -> tuple[dict[str, Any], Experience]:
    """Learns from a rollout: from each of its mini-batches once, in order.

    Without mini-batches, the weights do not change.
    """
    watch = watch or Stopwatch()
    watch.set("rollout", rollout.seconds)
    with watch.measure("rollout"):
        experience = stage.algorithm.learn(rollout)
    updates: list[Update] = []
    versions: list[int] = []
    # The first update's own forward pass uses the old weights, so it needs no scoring.
    first, later = experience.mini_batches[:1], experience.mini_batches[1:]
    scored: list[MiniBatch] = []
    if later:
        with watch.measure("scoring"):
            scored = [tuple(map(learner.score, mini_batch)) for mini_batch in later]
    with watch.measure("update"):
        for mini_batch in (*first, *scored):
            versions.append(learner.policy_version)
            terms = stage.algorithm.loss_terms(mini_batch)
            updates.append(learner.update(terms, step=step, steps=stage.steps))
    metrics = {**experience.metrics, **_update_metrics(updates)}
    responses = [c for group in rollout.groups for t in group.trajectories for c in t.completions]
    if rollout.groups:
        metrics["responses"] = len(responses)
    updated = list(chain.from_iterable(experience.mini_batches))
    if stage.algorithm.samples_from_engine:
        await engine.sync(learner.publish())
        metrics |= staleness_metrics(rollout, versions)
        if isinstance(engine, SupportsSyncMeasurement) and engine.reach is not None:
            metrics["engine_update_reached_fraction"] = engine.reach.update_reached
        if isinstance(engine, CheckedEngine):
            metrics |= engine.sync_metrics
    metrics |= watch.metrics(
        sampled=sum(len(response.token_ids) for response in responses),
        scored=list(chain(*scored)),
        updated=updated,
    )
    return metrics, experience


async def evaluate(
    stage: Stage, step: int, engine: Engine, evaluator: Evaluator, watch: Stopwatch
) -> Accuracy | None:
    """The accuracy after `step` steps; None if no evaluation is due."""
    if not evaluator.is_due(stage, step):
        return None
    with watch.measure("evaluation"):
        return await evaluator.evaluate(stage, step, engine)


async def evaluate_at_first(
    stage: Stage,
    engine: Engine,
    evaluator: Evaluator,
    journal: Journal,
    progress: Progress = NO_PROGRESS,
    learner: Learner | None = None,
) -> None:
    """Records the accuracy before the first step, and notes tasks that could not be evaluated.

    Args:
        learner: Scores the off-task texts; None: they are not scored.
    """
    watch = Stopwatch(progress, stage=stage.name, steps=stage.steps)
    accuracy = await evaluate(stage, 0, engine, evaluator, watch)
    drift: dict[str, float] = {}
    if learner is not None and evaluator.drift is not None:
        with watch.measure("evaluation"):
            drift = await measure_drift(stage, 0, learner, engine, evaluator, journal)
    journal.record(stage, 0, drift | watch.seconds("evaluation"), (), accuracy)
    if accuracy is None:
        return
    shortfall = accuracy.shortfall(evaluator.settings.tasks)
    if shortfall:
        journal.note(stage, 0, f"Evaluation: {shortfall}. Scores are means over these.")
    note_failed_evaluation(stage, 0, accuracy, journal)
    note_prompts_too_long(stage, 0, accuracy.groups, journal)
    splits = split_note(accuracy.groups)
    if splits is not None:
        journal.note(stage, 0, f"Evaluation: {splits}")


def note_prompts_too_long(
    stage: Stage, step: int, groups: Sequence[Group], journal: Journal
) -> None:
    """Notes the tasks that were not played because their prompt leaves no room for a response."""
    unplayed = [group for group in groups if any(t.prompt_too_long for t in group.trajectories)]
    if unplayed:
        names = ", ".join(repr(group.task_id) for group in unplayed[:3])
        more = f" and {len(unplayed) - 3} more" if len(unplayed) > 3 else ""
        reason = unplayed[0].trajectories[0].truncation_reason
        journal.note(stage, step, f"Not played: {names}{more}. {reason.capitalize()}.")


def choose_routing_replay(stage: Stage, step: int, learner: Learner, journal: Journal) -> None:
    """Sets the routing replay according to the stage's rule, and notes every change."""
    if stage.replay is None:
        return
    history = journal.history(stage)
    choice = stage.replay(history)
    learner.replay = choice.mode
    before = stage.replay([row for row in history if row["step"] < step])
    if step == 0 or before.mode is not choice.mode:
        journal.note(stage, step + 1, f"Routing replay is {choice.mode}, because {choice.reason}.")


def _update_metrics(updates: Sequence[Update]) -> dict[str, Any]:
    """Means over the step's updates, and metrics of all tokens that they measured."""
    if not updates:
        return {"gradient_steps": 0}
    measured = [u.measurements for u in updates if len(u.measurements.logprobs)]
    tokens = TokenMeasurements.join(measured)
    return {
        "loss": sum(update.loss for update in updates) / len(updates),
        "gradient_norm": sum(update.gradient_norm for update in updates) / len(updates),
        "learning_rate": updates[-1].learning_rate,
        "gradient_steps": len(updates),
        "weights_changed_fraction": sum(u.reach.weights_changed for u in updates) / len(updates),
        "update_reached_fraction": sum(u.reach.update_reached for u in updates) / len(updates),
        **policy_metrics(tokens),
    }
