"""The loop: which weights score, which sample, and in what order things are recorded."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from steadyrl.algorithms.protocol import Experience, MiniBatch, Plan, Rollout
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Engine, EngineCapabilities, Request
from steadyrl.evaluation.accuracy import Accuracy, EvaluationSettings
from steadyrl.learners.local import LocalLearner
from steadyrl.learners.loss_term import LossTerm
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.learners.protocol import Learner
from steadyrl.records.completion import Completion
from steadyrl.records.trajectory import Group
from steadyrl.records.weight_source import WeightSource
from steadyrl.training.checkpointer import Checkpointer
from steadyrl.training.evaluator import Evaluator
from steadyrl.training.journal import Journal
from steadyrl.training.loop import note_prompts_too_long, train, train_step
from steadyrl.training.sampler import LocalSampler, sample
from steadyrl.training.stage import RunPosition, Stage
from steadyrl.training.stopwatch import Stopwatch
from tests.closeness import assert_close
from tests.learners.small import (
    completion_of,
    group_of,
    made_up_batch,
    term_on,
    tiny_learner,
    tiny_policy,
)


class Silent:
    """An engine that writes nothing and notes which weights it was given."""

    def __init__(self) -> None:
        self.policy_version = 0
        self.capabilities = EngineCapabilities(
            max_positions=None, routing=False, exact_draws=True, scoring=False
        )
        self.loaded: list[tuple[int, float]] = []

    async def generate(self, request: Request) -> list[Completion]:
        raise AssertionError("this engine is never asked")

    async def score(self, sequences: Sequence[Tensor]) -> list[Tensor]:
        raise AssertionError("this engine is never asked")

    async def sync(self, weights: WeightSource) -> None:
        self.policy_version = weights.version
        total = float(sum(weight.double().sum() for _, weight in weights.tensors("model")))
        self.loaded.append((weights.version, total))


class Scripted:
    """An algorithm that gives the same mini-batches in every step and notes what it gets back."""

    def __init__(
        self,
        mini_batches: Sequence[MiniBatch],
        samples: bool = True,
        written: Sequence[Completion] = (),
    ) -> None:
        self.samples_from_engine = samples
        self.written = written
        self.mini_batches = tuple(mini_batches)
        self.scored: list[MiniBatch] = []
        self.asked: list[tuple[int, int]] = []

    def plan(self, step: int) -> Plan:
        return Plan(step=step, tasks=(), seed=0)

    async def play(self, plan: Plan, engine: Any) -> Rollout:
        self.asked.append((plan.step, engine.policy_version))
        groups = (group_of([self.written]),) if self.samples_from_engine else ()
        return Rollout(groups=groups)

    def learn(self, rollout: Rollout) -> Experience:
        reward = float(self.asked[-1][0])
        return Experience(mini_batches=self.mini_batches, metrics={"reward": reward})

    def loss_terms(self, mini_batch: MiniBatch) -> tuple[LossTerm, ...]:
        self.scored.append(mini_batch)
        return tuple(term_on(batch) for batch in mini_batch)


def stage_of(algorithm: Scripted, *, steps: int = 2, **changes: Any) -> Stage:
    values = {
        "name": "rl",
        "optimizer": OptimizerSettings(learning_rate=1e-3),
        "temperature": 1.0,
    }
    return Stage(algorithm=algorithm, steps=steps, **{**values, **changes})


THREE = [(made_up_batch(seed=seed),) for seed in (1, 2, 3)]


def step_of(
    stage: Stage, step: int, learner: LocalLearner, engine: Any
) -> tuple[dict[str, Any], Experience]:
    """A step on a rollout that is sampled with the present weights."""

    async def taken() -> tuple[dict[str, Any], Experience]:
        rollout = await sample(stage.algorithm, step, engine)
        return await train_step(stage, step, rollout, learner, engine)

    return drive(taken())


def begun(stage: Stage) -> tuple[LocalLearner, Silent]:
    learner, engine = tiny_learner(), Silent()
    learner.begin_stage(stage.optimizer, stage.temperature, fresh=True)
    return learner, engine


def passes(learner: LocalLearner) -> list[bool]:
    """Whether each pass through the trunk carries a gradient, from now on."""
    seen: list[bool] = []
    learner.policy.model.base_model.register_forward_pre_hook(
        lambda *_: seen.append(torch.is_grad_enabled())
    )
    return seen


def test_first_mini_batch_is_not_scored_and_later_ones_at_the_old_weights() -> None:
    algorithm = Scripted(THREE)
    stage = stage_of(algorithm)
    learner, engine = begun(stage)
    seen = passes(learner)
    frozen = tiny_policy()
    step_of(stage, 0, learner, engine)

    assert algorithm.scored[0] is THREE[0]
    for (batch,), (scored,) in zip(THREE[1:], algorithm.scored[1:], strict=True):
        old = frozen.score(batch.tokens, batch.attention_mask, batch.loss_mask).logprobs.detach()
        assert_close(scored.old_logprobs, old)
    # Two scoring passes; then each update learns four rows and measures the one without signal.
    assert seen == [False, False, *[True, False] * 3]


def test_one_mini_batch_is_learned_from_without_any_scoring() -> None:
    algorithm = Scripted(THREE[:1])
    stage = stage_of(algorithm)
    learner, engine = begun(stage)
    seen = passes(learner)
    metrics, _ = step_of(stage, 0, learner, engine)

    assert seen == [True, False]
    assert metrics["staleness_kl_k3"] == 0
    assert metrics["clip_fraction_low"] == metrics["clip_fraction_high"] == 0
    assert metrics["gradient_steps"] == 1
    assert "scoring_tokens_per_second" not in metrics


def test_metrics_of_a_step_are_those_of_its_updates_and_its_experience() -> None:
    stage = stage_of(Scripted(THREE), steps=4, optimizer=OptimizerSettings(warmup_steps=4))
    learner, engine = begun(stage)
    metrics, experience = step_of(stage, 2, learner, engine)

    assert metrics["reward"] == 2.0
    assert metrics["gradient_steps"] == 3
    assert metrics["learning_rate"] == pytest.approx(0.75e-6)
    assert metrics["staleness"] == (0 + 1 + 2) / 3  # updates since the engine's weights, each time
    assert metrics["mismatch_kl_k3"] > 0
    assert experience.mini_batches == tuple(THREE)


def test_a_step_learns_from_every_batch_of_a_mini_batch_at_once() -> None:
    (one,), (two,), (three,) = THREE
    algorithm = Scripted([(one, two), (two, three)])
    stage = stage_of(algorithm)
    learner, engine = begun(stage)
    frozen = tiny_policy()
    metrics, experience = step_of(stage, 0, learner, engine)

    assert metrics["gradient_steps"] == learner.policy_version == 2
    assert algorithm.scored[0] is experience.mini_batches[0]
    assert len(algorithm.scored[1]) == 2
    for batch, scored in zip((two, three), algorithm.scored[1], strict=True):
        old = frozen.score(batch.tokens, batch.attention_mask, batch.loss_mask).logprobs.detach()
        assert_close(scored.old_logprobs, old)
    twin, _ = begun(stage)
    update = twin.update([term_on(one), term_on(two)], step=0, steps=2)
    twin_loss = twin.update([term_on(b) for b in algorithm.scored[1]], step=0, steps=2).loss
    assert_close(metrics["loss"], (update.loss + twin_loss) / 2)


def test_a_mini_batch_of_reprompted_rows_alone_hides_no_metric() -> None:
    (one,), (two,), _ = THREE
    stage = stage_of(Scripted([(one,), (replace(two, reprompted=True),)]))
    metrics, _ = step_of(stage, 0, *begun(stage))
    alone = stage_of(Scripted([(one,)]))
    expected, _ = step_of(alone, 0, *begun(alone))

    for name in ("mismatch_kl_k3", "ess", "entropy", "clip_fraction_low"):
        assert metrics[name] == expected[name]
    assert metrics["gradient_steps"] == 2


def test_tokens_that_are_learned_twice_were_sampled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,), (two,), _ = THREE
    written = [completion_of(3), completion_of(2)]
    seen: dict[str, Any] = {}
    monkeypatch.setattr(Stopwatch, "metrics", lambda _self, **batches: seen.update(batches) or {})
    copied = replace(one, teacher=two)
    stage = stage_of(Scripted([(one, replace(two, reprompted=True), copied)], written=written))
    step_of(stage, 0, *begun(stage))

    assert seen["sampled"] == 5
    assert [len(batch) for batch in seen["updated"]] == [len(one), len(two), len(one)]


def test_a_step_in_which_nothing_can_be_learned_leaves_the_weights() -> None:
    stage = stage_of(Scripted([]))
    learner, engine = begun(stage)
    metrics, experience = step_of(stage, 0, learner, engine)

    assert experience.mini_batches == ()
    assert learner.policy_version == 0
    assert metrics["gradient_steps"] == 0
    assert metrics["reward"] == 0.0


def test_loss_and_gradient_norm_are_means_over_the_updates() -> None:
    stage = stage_of(Scripted(THREE))
    learner, engine = begun(stage)
    metrics, _ = step_of(stage, 0, learner, engine)
    twin, _ = begun(stage)
    scored = [*THREE[0], *(twin.score(batch) for (batch,) in THREE[1:])]
    updates = [twin.update([term_on(batch)], step=0, steps=2) for batch in scored]

    assert metrics["loss"] == pytest.approx(sum(u.loss for u in updates) / 3)
    assert metrics["gradient_norm"] == pytest.approx(sum(u.gradient_norm for u in updates) / 3)
    assert metrics["staleness_kl_k3"] > 0


def test_engine_gets_new_weights_after_each_step_that_samples() -> None:
    stage = stage_of(Scripted(THREE[:2]), steps=3)
    learner, engine = begun(stage)
    for number in range(3):
        metrics, _ = step_of(stage, number, learner, engine)
        assert metrics["staleness"] == (0 + 1) / 2

    assert [version for version, _ in engine.loaded] == [2, 4, 6]
    assert stage.algorithm.asked == [(0, 0), (1, 2), (2, 4)]
    assert len({weights for _, weights in engine.loaded}) == 3


def test_engine_is_left_alone_by_a_stage_that_does_not_sample() -> None:
    stage = stage_of(Scripted(THREE[:1], samples=False))
    learner, engine = begun(stage)
    metrics, _ = step_of(stage, 0, learner, engine)

    assert engine.loaded == []
    assert "rollout_tokens_per_second" not in metrics
    assert "staleness" not in metrics
    assert "update_tokens_per_second" in metrics


class NotingJournal(Journal):
    """Notes what it is told instead of writing it."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def record(self, stage: Stage, step: int, metrics: Any, groups: Any, accuracy: Any) -> None:
        self.seen.append(("record", stage.name, step, accuracy))

    def history(self, stage: Stage) -> list[Any]:
        return []

    def remember(self, stage: Stage, step: int, writes: Any) -> None:
        assert writes == ()


class NotingCheckpointer(Checkpointer):
    """Notes in `journal` what it is told, and saves nothing."""

    def __init__(self, journal: NotingJournal) -> None:
        self.seen = journal.seen

    def is_due(self, stage: Stage, step: int) -> bool:
        return True

    def save(
        self,
        stage: Stage,
        position: RunPosition,
        learner: Learner,
        algorithm_state: Any,
        waiting: Any = None,
    ) -> None:
        self.seen.append(("checkpoint", stage.name, position, learner.policy_version))


class NotingEvaluator(Evaluator):
    """Notes in `journal` what it is asked, and measures nothing."""

    def __init__(self, journal: NotingJournal) -> None:
        self.seen = journal.seen

    async def evaluate(self, stage: Stage, step: int, engine: Engine) -> Any:
        self.seen.append(("evaluate", stage.name, step, engine.policy_version))


def two_stages() -> list[Stage]:
    return [
        stage_of(Scripted(THREE[:1], samples=False), name="cold_start", steps=2),
        stage_of(Scripted(THREE[:2]), steps=2, evaluate_every=1),
    ]


COLD = [
    ("record", "cold_start", 1, None),
    ("checkpoint", "cold_start", RunPosition(stage=0, step=1), 1),
    ("record", "cold_start", 2, None),
    ("checkpoint", "cold_start", RunPosition(stage=0, step=2), 2),
]
BEGIN = [("evaluate", "rl", 0, 2), ("record", "rl", 0, None)]
FIRST = [
    ("evaluate", "rl", 1, 4),
    ("record", "rl", 1, None),
    ("checkpoint", "rl", RunPosition(stage=1, step=1), 4),
]
SECOND = [
    ("evaluate", "rl", 2, 6),
    ("record", "rl", 2, None),
    ("checkpoint", "rl", RunPosition(stage=1, step=2), 6),
]


@pytest.mark.parametrize(
    ("start", "version", "expected"),
    [
        (RunPosition(), 0, [*COLD, *BEGIN, *FIRST, *SECOND]),
        (RunPosition(stage=0, step=2), 2, [*BEGIN, *FIRST, *SECOND]),
        (RunPosition(stage=1, step=1), 4, SECOND),
        (RunPosition(stage=1, step=2), 6, []),
    ],
)
def test_the_loop_takes_every_step_from_its_start(
    start: RunPosition, version: int, expected: list[tuple[object, ...]]
) -> None:
    learner, journal = tiny_learner(), NotingJournal()
    learner.policy_version = version
    stages, engine = two_stages(), Silent()
    drive(
        train(
            stages,
            learner,
            engine,
            LocalSampler(stages, engine),
            NotingEvaluator(journal),
            journal,
            NotingCheckpointer(journal),
            start,
        )
    )

    assert journal.seen == expected


class NotesAlone(NotingJournal):
    """Notes what it is to keep a sentence of."""

    def note(self, stage: Stage, step: int, text: str) -> None:
        self.seen.append((stage.name, step, text))

    def record(self, stage: Stage, step: int, metrics: Any, groups: Any, accuracy: Any) -> None:
        pass


def unplayed_but_one(tasks: int) -> list[Group]:
    """Of so many tasks, number 1 alone was played."""
    reason = "prompt too long: 104 tokens leave no room to answer"
    (played,) = group_of([[]]).trajectories
    unplayed = replace(played, truncated=True, truncation_reason=reason)
    return [
        Group(task_id=f"t{number}", trajectories=(played if number == 1 else unplayed,))
        for number in range(tasks)
    ]


def test_tasks_that_a_step_or_an_evaluation_could_not_play_are_noted() -> None:
    class Unplayed(Scripted):
        async def play(self, plan: Plan, engine: Any) -> Rollout:
            self.asked.append((plan.step, engine.policy_version))
            return Rollout(groups=tuple(unplayed_but_one(1)))

    class Evaluating(NotingEvaluator):
        settings = EvaluationSettings(tasks=2)

        async def evaluate(self, stage: Stage, step: int, engine: Engine) -> Any:
            return Accuracy(groups=tuple(unplayed_but_one(2)))

    journal = NotesAlone()
    stage = stage_of(Unplayed(()), steps=1, evaluate_every=1)
    keeping, engine = NotingCheckpointer(journal), Silent()
    drive(
        train(
            [stage],
            tiny_learner(),
            engine,
            LocalSampler([stage], engine),
            Evaluating(journal),
            journal,
            keeping,
            RunPosition(),
        )
    )
    notes = [told for told in journal.seen if told[0] == "rl"]
    assert [step for _, step, text in notes if str(text).startswith("Not played: 't0'.")] == [0, 1]


def test_tasks_that_were_not_played_are_noted_by_name() -> None:
    groups = unplayed_but_one(5)
    journal, stage = NotesAlone(), stage_of(Scripted(()))
    note_prompts_too_long(stage, 7, groups[:2], journal)
    note_prompts_too_long(stage, 8, groups, journal)
    note_prompts_too_long(stage, 9, groups[1:2], journal)
    why = "Prompt too long: 104 tokens leave no room to answer."
    assert journal.seen == [
        ("rl", 7, f"Not played: 't0'. {why}"),
        ("rl", 8, f"Not played: 't0', 't2', 't3' and 1 more. {why}"),
    ]


def test_momentum_is_kept_within_a_stage_and_forgotten_at_the_next() -> None:
    moments: list[bool] = []

    class Watching(LocalLearner):
        def begin_stage(self, *arguments: Any, **options: Any) -> None:
            super().begin_stage(*arguments, **options)
            moments.append(bool(self.optimizer.state()))

    for start in (RunPosition(stage=0, step=1), RunPosition(stage=1, step=1)):
        learner = tiny_learner()
        learner.update([term_on(*THREE[0])], step=0, steps=2)
        learner.__class__ = Watching
        journal = NotingJournal()
        stages, engine = two_stages(), Silent()
        drive(
            train(
                stages,
                learner,
                engine,
                LocalSampler(stages, engine),
                NotingEvaluator(journal),
                journal,
                NotingCheckpointer(journal),
                start,
            )
        )

    # Goes on in stage 0 with its moments, begins stage 1 without; goes on in stage 1 with them.
    assert moments == [True, False, True]
