"""The configuration of a run."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.algorithms.registry import AnyAlgorithm
from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.engines.canary import CanarySettings
from steadyrl.engines.engine_settings import ModelEngineSettings
from steadyrl.engines.local import LocalEngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.engines.registry import AnyEngine
from steadyrl.environments.registry import AnyEnvironment, AnyTeacher
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.learners.local import LocalLearnerSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.learners.registry import AnyLearner
from steadyrl.policies.model_settings import AnyModel, SmallDense, SmallMoE
from steadyrl.policies.numerics import Numerics
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config_errors import describe
from steadyrl.run.placement.settings import AnyPlacement, EmbeddedPlacement
from steadyrl.training.journal import JournalSettings
from steadyrl.training.trackers import (
    AnyTracker,
    JsonlSettings,
    TensorBoardSettings,
    TrackerSettings,
)


class ColdStart(Settings):
    """Supervised training on a teacher's demonstrations, before reinforcement."""

    teacher: AnyTeacher
    """Source of demonstrations, on the tasks of the run or on its own."""

    steps: int = Field(1000, ge=1)
    """Number of optimizer steps."""

    batch_size: int = Field(128, ge=1)
    """Number of demonstrations per step."""

    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=1e-3, schedule="cosine")

    seed: int | None = Field(None, ge=0)
    """Seed of the first weights and of the demonstrations. None: that of the run. With one of its
    own, runs of any seed reinforce the same cold start."""


class RunConfig(Settings):
    """Configuration of a run."""

    seed: int = Field(0, ge=0)
    """Seed of all random numbers of the run."""

    threads: int | None = Field(None, ge=1)
    """Number of CPU threads per matrix product; none: PyTorch's default. Use 1 for small models."""

    model: AnyModel = SmallMoE()
    """The model to train: a small one with random weights by its name, or a checkpoint: a folder, a
    GGUF file or a name on the Hub."""

    environment: AnyEnvironment

    cold_start: ColdStart | None = None

    algorithm: AnyAlgorithm = PolicyGradientSettings()
    """Algorithm: the rollout of each step, and the loss on it."""

    routing_replay: RoutingReplay | Literal["auto"] = "auto"
    """Expert choices in the trainer: its own (none), its own under the old weights (r2), or the
    engine's (r3). auto: chosen by the number of mini-batches and the measurements of the run."""

    steps: int = Field(100, ge=0)
    """Number of rollouts, each with one optimizer step per mini-batch. 0: cold start only."""

    sampling: Sampling = Sampling()

    engine: AnyEngine = LocalEngineSettings()

    canary: CanarySettings = CanarySettings()
    """Checks that the engine computes the same as the learner; a failure stops the run."""

    learner: AnyLearner = LocalLearnerSettings()

    placement: AnyPlacement = EmbeddedPlacement()

    optimizer: OptimizerSettings = OptimizerSettings()

    evaluation: EvaluationSettings = EvaluationSettings()

    evaluate_every: int = Field(50, ge=1)
    """Number of steps between evaluations. There is also one before the first step and one after
    the last."""

    journal: JournalSettings = JournalSettings()

    trackers: tuple[AnyTracker, ...] = (JsonlSettings(), TensorBoardSettings())
    """Receivers of metrics and notes. JSONL, the record of the run, is always included."""

    @field_validator("trackers")
    @classmethod
    def _has_record(cls, trackers: tuple[TrackerSettings, ...]) -> tuple[TrackerSettings, ...]:
        names = [tracker.name for tracker in trackers]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice. Name each tracker once.")
        return trackers if "jsonl" in names else (JsonlSettings(), *trackers)

    @model_validator(mode="after")
    def _parts_fit_the_environment(self) -> "RunConfig":
        self.algorithm.check_fits(self.environment)
        self.environment.require_turns("evaluation.max_turns", self.evaluation.max_turns)
        if self.cold_start is not None:
            self.cold_start.teacher.check_fits(self.environment)
        return self

    @model_validator(mode="after")
    def _check_combination(self) -> "RunConfig":
        replay = self.routing_replay
        if isinstance(self.model, SmallDense) and replay in (RoutingReplay.R2, RoutingReplay.R3):
            raise ValueError(
                f"routing_replay is {str(replay)!r}, but the model {self.model.name!r} is dense "
                "and has no routing. Set routing_replay to 'none', or choose a Mixture-of-Experts "
                "model."
            )
        if replay is RoutingReplay.R2 and self.algorithm.gradient_steps == 1:
            raise ValueError(
                "routing_replay is 'r2' with mini_batches 1: the only update of each step runs at "
                "the old weights, so R2 would replay what is chosen anyway. Use 'none' or 'r3', or "
                "set algorithm.mini_batches to 2 or more."
            )
        self.engine.check_learner(self.learner.dtype)
        self.placement.check_fits(self.engine, self.learner)
        if self.canary.every and self.learner.lora and self.learner.dtype == "bfloat16":
            raise ValueError(
                f"canary.every is {self.canary.every} with learner.lora and learner.dtype "
                "'bfloat16': the engine rounds merged weights, so its distance from the trainer "
                "grows with the adapter. Set canary.every to 0, or learner.dtype to 'float32'."
            )
        for alike, name, remedy in (
            (self.sampling.temperature == 0, "temperature is 0", "a temperature above 0"),
            (self.sampling.top_k == 1, "top_k is 1", "top_k to 2 or more, or leave it out"),
        ):
            if alike:
                raise ValueError(
                    f"sampling.{name}: every answer to a prompt would be the same, so no group "
                    f"has signal. Set {remedy}."
                )
        self._check_staleness()
        self._check_rescoring()
        self._check_rollout_logprobs()
        self._check_candidates()
        return self

    def learned_samplings(self) -> dict[str, Sampling]:
        """Samplings whose tokens are trained on, by their settings."""
        if not self.steps:
            return {}
        others = self.algorithm.learned_samplings()
        places = {f"algorithm.{place}": sampling for place, sampling in others.items()}
        return {"sampling": self.sampling, **places}

    def _check_candidates(self) -> None:
        """Checks that the most probable tokens are recorded of all that is learned from."""
        if not self.algorithm.reads_candidates:
            return
        for place, sampling in self.learned_samplings().items():
            if sampling.is_truncated:
                raise ValueError(
                    "the objective reads the most probable tokens of the engine, which are only "
                    f"recorded of sampling from the whole vocabulary, but {place} has top_p or "
                    f"top_k. Set {place}.top_p to 1 and leave top_k out, or choose an objective "
                    "and a correction that do not read them."
                )

    def _check_rollout_logprobs(self) -> None:
        """Checks that the trainer's log-probabilities may count as the engine's."""
        if self.learner.rollout_logprobs == "engine":
            return
        engine = self.engine
        exact = (
            isinstance(engine, ModelEngineSettings)
            and engine.numerics is Numerics.FLOAT32
            and not engine.has_noise
            and engine.steps_ahead == 0
            and self.learner.dtype == "float32"
        )
        if not exact:
            raise ValueError(
                "learner.rollout_logprobs is 'trainer', which is true of an engine that differs "
                "from the trainer by rounding alone. Set it to 'engine', or use the engine 'local' "
                "with engine.numerics 'float32', without noise and max_staleness 0, and "
                "learner.dtype 'float32'."
            )

    def _check_rescoring(self) -> None:
        """Checks that scores, which are at temperature 1, are comparable with sampled tokens."""
        sampling = self.sampling
        plain = sampling.temperature == 1 and not sampling.is_truncated
        if self.engine.rescored_groups and not plain:
            raise ValueError(
                f"engine.rescored_groups is {self.engine.rescored_groups}, but tokens are not "
                "sampled at temperature 1 from all tokens, as they are scored. Set "
                "engine.rescored_groups to 0, or sampling.temperature to 1 without top_p and top_k."
            )

    def _check_staleness(self) -> None:
        """Checks that rollouts can be sampled as far ahead as the settings ask for."""
        ahead, every = self.engine.steps_ahead, self.journal.checkpoint_every
        cause = "overlap is true" if self.engine.overlap else f"max_staleness is {ahead}"
        remedy = "engine.overlap to false" if self.engine.overlap else "engine.max_staleness to 0"
        if ahead >= every and self.engine.in_flight == "finish":
            raise ValueError(
                f"engine.{cause} with journal.checkpoint_every {every}: rollouts are not sampled "
                f"ahead of a checkpoint, so none would be {_steps(ahead)} ahead. Set "
                f"journal.checkpoint_every to {ahead + 1} or more, or {remedy}."
            )
        reason = self.algorithm.staleness_unsupported_reason
        if ahead and reason is not None:
            raise ValueError(f"engine.{cause}, but {reason}, or set {remedy}.")

    @property
    def first_seed(self) -> int:
        """Seed of everything before reinforcement."""
        own = None if self.cold_start is None else self.cold_start.seed
        return self.seed if own is None else own

    @property
    def replay_to_begin_with(self) -> RoutingReplay:
        """Routing replay of the first step."""
        replay = self.routing_replay
        return RoutingReplay.NONE if replay == "auto" else RoutingReplay(replay)


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML with all fields."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def from_yaml(path: Path) -> RunConfig:
    """Reads the configuration from a YAML file.

    Raises:
        UserError: the file is missing, is not YAML, or is not a valid configuration.
    """
    if not path.is_file():
        raise UserError(
            f"There is no configuration at {path}. Give a YAML file, or a recipe's name."
        )
    try:
        return parse(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not YAML: {reason}. Correct it, or write it anew.") from error


def parse(values: Any, where: str) -> RunConfig:
    """Validates `values` as a configuration.

    Raises:
        UserError: they are not valid; the message names all invalid fields.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(
            f"The configuration of {where} is not valid: {describe(error, RunConfig, values)}"
        ) from error
