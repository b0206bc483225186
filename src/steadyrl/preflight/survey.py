"""All questions, asked in order of one setup."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from steadyrl.algorithms.policy_gradient import CreditSettings
from steadyrl.analysis.safety import LIMITS, Finding, Verdict
from steadyrl.base.errors import UserError
from steadyrl.base.memory import PeakMemory
from steadyrl.base.progress import NO_PROGRESS, Progress
from steadyrl.base.settings import Settings
from steadyrl.engines.canary import CanaryError, CanarySettings, make_probes
from steadyrl.engines.driver import drive
from steadyrl.environments.protocol import Split
from steadyrl.learners.loss_term import LossTerm
from steadyrl.objectives import Aggregation, MiniRL
from steadyrl.policies.loading import load_tokenizer
from steadyrl.policies.tokenizers import padding_id, text_tokens
from steadyrl.preflight.answers import reward_findings, sample_findings
from steadyrl.preflight.engine_trainer import (
    canary_finding,
    company_of_trainer,
    engine_findings,
    kl_findings,
    kl_sources,
)
from steadyrl.preflight.report import Cost, Report
from steadyrl.records.token_batch import TokenBatch
from steadyrl.records.trajectory import Group, first_failure
from steadyrl.rollout.batching import token_batch
from steadyrl.rollout.episodes import play_groups
from steadyrl.rollout.seeds import derive_seed
from steadyrl.rollout.tasks import shuffled_tasks
from steadyrl.run.assembly import Assembly, unchecked
from steadyrl.run.components import ROLLOUT
from steadyrl.run.config import RunConfig
from steadyrl.run.devices import learner_device
from steadyrl.run.memory_check import gigabytes, refusal
from steadyrl.run.memory_plan import MemoryPlan, RunSizes, plan_memory, responses_of_step
from steadyrl.training.checked_engine import CheckedEngine
from steadyrl.training.checkpoint import load_checkpoint

Result = TypeVar("Result")

CANARY_RATE = 1e-4
"""Learning rate of the discarded update: every weight moves by about as much, so that its arrival
can be seen."""

JUDGED = 16
"""Tasks of which right and wrong answers are judged."""


class PreflightSettings(Settings):
    """Size of the short rollout."""

    prompts: int = Field(32, ge=1)
    """Prompts of the short rollout: the first ones of the run."""

    samples: int = Field(8, ge=2)
    """Answers to each of them."""


DEFAULTS = PreflightSettings()


def preflight(
    config: RunConfig,
    settings: PreflightSettings = DEFAULTS,
    *,
    checkpoint: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> Report:
    """The answers to all questions about `config`. Nothing is written.

    Args:
        checkpoint: Checkpoint of a run, whose weights are measured in place of the model's own.

    Raises:
        UserError: the run would be refused, or no episode can be played.
    """
    engine = config.engine.model_copy(update={"overlap": False})
    config = unchecked(config.model_copy(update={"engine": engine}))
    progress.begin("planning memory")
    tokenizer = load_tokenizer(config.model)
    sizes = RunSizes.of(config, tokenizer)
    plan = plan_memory(config, sizes)
    if plan.share > 1:
        sentence = refusal(config, plan, sizes)
        return Report(findings=[_memory_finding(plan)], plan=plan, notes=[sentence])
    peak = PeakMemory(learner_device(config))
    assembly = Assembly.of(config, tokenizer=tokenizer, progress=progress)
    with closing(assembly), TemporaryDirectory() as folder:
        if checkpoint is not None:
            load_checkpoint(checkpoint, assembly.learner)
        survey = _Survey(config, settings, assembly, progress)
        findings = list(survey.findings(Path(folder), sizes.model.vocabulary))
    planned = RunSizes.of(config, tokenizer, survey.most_given)
    plan = plan_memory(config, planned, plan.available)
    before = ["Measured before the cold start."] if config.cold_start and not checkpoint else []
    return Report(
        findings=in_order([_memory_finding(plan), *findings]),
        plan=plan,
        cost=survey.cost(peak.bytes),
        notes=[*assembly.notes, *before],
        tokens=survey.tokens,
        settings=settings.model_dump(),
    )


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """The findings in the order of the table."""
    order = list(LIMITS)
    return sorted(findings, key=lambda finding: order.index(finding.question))


def _memory_finding(plan: MemoryPlan) -> Finding:
    text = f"{gigabytes(plan.least)} GB planned at least, {gigabytes(plan.available)} GB free"
    return Finding.of("memory", plan.share, text)


class _Survey:
    """The questions that need the parts of a run."""

    def __init__(
        self,
        config: RunConfig,
        settings: PreflightSettings,
        assembly: Assembly,
        progress: Progress,
    ) -> None:
        self._config, self._settings, self._parts = config, settings, assembly
        self._progress = progress
        self._seconds: dict[str, float] = {}
        self.tokens = 0
        self.most_given = 0
        """Tokens of a row that the policy has not sampled: its prompt, and what turns add to it."""
        self._updated = 1.0

    def findings(self, folder: Path, vocabulary: int) -> Iterator[Finding]:
        """The findings.

        Args:
            folder: A folder for the weights of a reference policy, if there is one.
        """
        config, parts = self._config, self._parts
        stage, learner = parts.stages[-1], parts.learner
        plain = {"learning_rate": CANARY_RATE, "schedule": "constant", "warmup_steps": 0}
        optimizer = stage.optimizer.model_copy(update=plain)
        learner.begin_stage(optimizer, stage.temperature, fresh=True)
        if stage.needs_reference:
            learner.save_reference(folder / "reference")
            learner.load_reference(folder / "reference")
        checked, refused = self._checked_engine(vocabulary)
        groups = self._timed("rollout", self._sample)
        batch = self._batch(groups)
        self.tokens = int(batch.loss_mask.sum())
        self._progress.begin("comparing engine and trainer")
        yield from kl_findings(self._timed("scoring", lambda: kl_sources(batch, learner)))
        prompts = _prompts(groups)
        given = batch.attention_mask.sum(1) - batch.loss_mask.sum(1)
        self.most_given = max(int(given.max()), *map(len, prompts))
        yield from drive(engine_findings(parts.engine, prompts, config.sampling, self._seed))
        yield company_of_trainer(batch, learner)
        self._progress.begin("updating once")
        part = batch.rows(torch.arange(min(len(batch), responses_of_step(config))))
        self._updated = len(part) / len(batch)
        self._timed("update", lambda: learner.update([self._term(part)], step=0, steps=1))
        yield refused or drive(canary_finding(checked, learner))
        self._progress.begin("judging known answers")
        tasks = shuffled_tasks(parts.environment, Split.TRAIN, range(JUDGED), seed=self._seed)
        turns = config.environment.max_turns
        yield from drive(reward_findings(parts.environment, tasks, turns=turns))
        yield from sample_findings(groups, getattr(config.algorithm, "group_size", 2))

    def cost(self, peak: int) -> Cost:
        """Cost of a run whose steps are like this rollout and this update.

        Args:
            peak: Bytes.
        """
        config, seconds = self._config, self._seconds
        episodes = self._settings.prompts * self._settings.samples
        updates = config.algorithm.gradient_steps
        rescored = seconds["scoring"] * (updates - 1) / updates
        updating = seconds["update"] / self._updated
        each = (seconds["rollout"] + rescored + updating) / episodes
        step = each * responses_of_step(config)
        asked = config.evaluation.tasks * config.evaluation.samples
        evaluations = 2 + (config.steps - 1) // config.evaluate_every
        evaluating = evaluations * asked * seconds["rollout"] / episodes
        return Cost(
            step_seconds=step, run_seconds=config.steps * step + evaluating, peak_bytes=peak
        )

    @property
    def _seed(self) -> int:
        return derive_seed(self._config.seed, ROLLOUT)

    def _timed(self, name: str, work: Callable[[], Result]) -> Result:
        started = time.perf_counter()
        result = work()
        self._seconds[name] = time.perf_counter() - started
        return result

    def _checked_engine(self, vocabulary: int) -> tuple[CheckedEngine, Finding | None]:
        """The engine after a first, checked sync, and the finding if that went wrong already."""
        parts, canary = self._parts, CanarySettings(every=1)
        tokens = text_tokens(parts.tokenizer, vocabulary)
        probes = make_probes(tokens, canary, parts.engine.capabilities.max_positions)
        checked = CheckedEngine(parts.engine, parts.learner, probes, canary)
        if not parts.engine.capabilities.scoring:
            drive(parts.engine.sync(parts.learner.publish()))
            return checked, Finding.missing("canary", "the engine does not score given tokens")
        try:
            drive(checked.sync(parts.learner.publish()))
        except CanaryError as error:
            wrong = Verdict.UNSAFE
            return checked, Finding(question="canary", value=None, verdict=wrong, detail=str(error))
        return checked, None

    def _sample(self) -> list[Group]:
        config, parts, settings = self._config, self._parts, self._settings
        self._progress.begin("sampling")
        numbers = range(settings.prompts)
        tasks = shuffled_tasks(parts.environment, Split.TRAIN, numbers, seed=self._seed)
        playing = play_groups(
            parts.environment,
            parts.engine,
            parts.tokenizer,
            tasks,
            group_size=settings.samples,
            sampling=config.sampling,
            seed=derive_seed(self._seed, 0),
            max_turns=getattr(config.algorithm, "max_turns", config.evaluation.max_turns),
            progress=self._progress,
        )
        return drive(playing)

    def _batch(self, groups: Sequence[Group]) -> TokenBatch:
        """All episodes, with advantages of 1 and -1 in turn: each has signal.

        Raises:
            UserError: no episode was played.
        """
        played = [group.played for group in groups if group.played.trajectories]
        if not played:
            raise UserError(f"No episode could be played. {first_failure(groups[0].trajectories)}")
        credits = [torch.ones(len(group.trajectories)) for group in played]
        for credit in credits:
            credit[1::2] = -1
        return token_batch(played, credits, pad_token_id=padding_id(self._parts.tokenizer))

    def _term(self, batch: TokenBatch) -> LossTerm:
        """The loss term of the run's objective."""
        algorithm = self._config.algorithm
        if not isinstance(algorithm, CreditSettings):
            return LossTerm(batch=batch, objective=MiniRL(), aggregation=Aggregation.TOKEN_SUM)
        return LossTerm(
            batch=batch,
            objective=algorithm.reference_kl.apply_to(algorithm.corrected_objective),
            aggregation=algorithm.aggregation,
            constant_length=algorithm.constant_length,
        )


def _prompts(groups: Sequence[Group]) -> list[Int[Tensor, " _P"]]:
    """First prompt of each group that was played."""
    first = [group.trajectories[0].completions[:1] for group in groups]
    return [completion.prompt_ids for completions in first for completion in completions]
