"""The configuration of a run."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from steadyrl.algorithms.erl_control import SecondChanceSettings
from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.grid_drills import GridDrillSettings
from steadyrl.algorithms.policy_gradient import PolicyGradientSettings
from steadyrl.algorithms.question_drills import QuestionDrillSettings
from steadyrl.algorithms.reflection_settings import HeldReflection
from steadyrl.base.errors import UserError
from steadyrl.base.settings import Settings
from steadyrl.engines.engine_settings import EngineSettings
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.hidden_meanings import teaches_what_is_hidden
from steadyrl.environments.registry import (
    EnvironmentSettings,
    TeacherSettings,
    longest_episode,
)
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.learners.settings import LearnerSettings
from steadyrl.policies.loading import ModelSettings, SmallDense, SmallMoE
from steadyrl.policies.numerics import WEIGHT_ROUNDINGS
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config_errors import describe
from steadyrl.training.journal import JournalSettings


class ColdStart(Settings):
    """Supervised learning from a procedural teacher, before reinforcement begins."""

    teacher: TeacherSettings | GridDrillSettings | QuestionDrillSettings = Field(
        discriminator="name"
    )
    """Who demonstrates on the run's own tasks; or drills for Experiential RL, on games or questions
    of their own."""

    steps: int = Field(1000, ge=1)
    """Optimizer steps of the cold start."""

    batch_size: int = Field(128, ge=1)
    """Demonstrations in each step."""

    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=1e-3, schedule="cosine")


class RunConfig(Settings):
    """Everything a run depends on."""

    seed: int = Field(0, ge=0)
    """Every random number of the run derives from it."""

    threads: int | None = Field(None, ge=1)
    """Threads of each matrix product on the CPU; None is PyTorch's choice. Small models want 1."""

    model: ModelSettings = SmallMoE()

    environment: EnvironmentSettings

    cold_start: ColdStart | None = None

    policy_gradient: PolicyGradientSettings = PolicyGradientSettings()

    erl: ExperientialSettings | None = None
    """Experiential RL in the place of policy gradient, whose settings it has among its own."""

    second_chance: SecondChanceSettings | None = None
    """The control of Experiential RL: policy gradient on episodes in which a failed attempt is
    followed by its feedback and by another attempt. Held-out tasks are attempted once."""

    routing_replay: RoutingReplay | Literal["auto"] = "auto"
    """Whose expert choices the trainer uses: its own (none), its own under the old weights (r2), or
    the engine's (r3). auto: by the number of mini-batches and what the run measures."""

    steps: int = Field(100, ge=0)
    """Rollouts, each followed by one optimiser step for each of its mini-batches. 0 ends with the
    cold start."""

    sampling: Sampling = Sampling()

    engine: EngineSettings = EngineSettings()

    learner: LearnerSettings = LearnerSettings()

    optimizer: OptimizerSettings = OptimizerSettings()

    evaluation: EvaluationSettings = EvaluationSettings()

    evaluate_every: int = Field(50, ge=1)
    """Steps between evaluations. Before the first step and after the last there is always one."""

    journal: JournalSettings = JournalSettings()

    @model_validator(mode="after")
    def _one_algorithm_is_described(self) -> "RunConfig":
        if self.erl is not None and self.policy_gradient != PolicyGradientSettings():
            raise ValueError(
                "erl is set, and so are fields of policy_gradient, which Experiential RL does not "
                "read. Set them under erl, and leave policy_gradient out."
            )
        if self.erl is not None and self.second_chance is not None:
            raise ValueError(
                "erl and second_chance are both set: the one is the control of the other. Leave "
                "one of them out."
            )
        return self

    @model_validator(mode="after")
    def _episodes_are_not_cut_short(self) -> "RunConfig":
        turns, attempts = longest_episode(self.environment), 2 if self.second_chance else 1
        for place, limit, wanted in (
            (f"{self._credited_under}.max_turns", self.credit.max_turns, turns * attempts),
            ("evaluation.max_turns", self.evaluation.max_turns, turns),
        ):
            if limit < wanted:
                raise ValueError(
                    f"{place} is {limit}, but an episode of {self.environment.name!r} as it is set "
                    f"may take {wanted} turns{' in both attempts' if wanted > turns else ''}, and "
                    f"would be cut short without reward. Set it to {wanted} or more."
                )
        return self

    @model_validator(mode="after")
    def _drills_leave_out_the_meaning_that_is_hidden(self) -> "RunConfig":
        drilled = getattr(self.cold_start.teacher if self.cold_start else None, "environment", None)
        if teaches_what_is_hidden(drilled, self.environment):
            raise ValueError(
                "the meaning that the environment hides is among those of the drills of the cold "
                "start, so that they teach what is to be found out. In the drills, permute what "
                "is fixed in the environment and no more, and give both the same meaning."
            )
        return self

    @model_validator(mode="after")
    def _combination_does_something(self) -> "RunConfig":
        replay = self.routing_replay
        if isinstance(self.model, SmallDense) and replay in (RoutingReplay.R2, RoutingReplay.R3):
            raise ValueError(
                f"routing_replay is {str(replay)!r}, but the model {self.model.name!r} is dense "
                "and has no routing. Set routing_replay to 'none', or choose a Mixture-of-Experts "
                "model."
            )
        if replay is RoutingReplay.R2 and self.gradient_steps == 1:
            raise ValueError(
                "routing_replay is 'r2' with mini_batches 1: the only update of each step runs at "
                "the old weights, so R2 would replay what is chosen anyway. Use 'none' or 'r3', or "
                f"set {self._credited_under}.mini_batches to 2 or more."
            )
        lowered = self.engine.numerics in WEIGHT_ROUNDINGS
        if lowered and self.engine.head_dtype == self.learner.dtype:
            raise ValueError(
                "engine.head_dtype is 'float32', but under engine.numerics "
                f"{self.engine.numerics.value!r} the head computes in learner.dtype, which is "
                "'float32' already. Leave head_dtype out, or set learner.dtype to 'bfloat16'."
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
        held = self.erl is not None and isinstance(self.erl.reflection, HeldReflection)
        if held and self.engine.overlap:
            raise ValueError(
                "erl.reflection is 'held' with engine.overlap: the policy that is held belongs to "
                "the training process, and rollouts come from another one. Set engine.overlap to "
                "false, or erl.reflection.name to 'policy'."
            )
        if self.engine.overlap and self.journal.checkpoint_every == 1:
            raise ValueError(
                "engine.overlap is true with journal.checkpoint_every 1: no rollout is under way "
                "while a checkpoint is written, so that nothing would overlap. Set "
                "journal.checkpoint_every to 2 or more, or engine.overlap to false."
            )
        credit = self.credit
        if self.engine.overlap and not credit.corrected_objective.corrects_mismatch:
            raise ValueError(
                f"engine.overlap is true, but the objective {credit.objective.name!r} does not "
                "read the ratio to the engine, whose weights are one rollout older then. Set "
                f"{self._credited_under}.correction to 'truncation' or 'masking', choose 'minirl' "
                "or a DPPO, or set engine.overlap to false."
            )
        return self

    @property
    def credit(self) -> PolicyGradientSettings:
        """How what was sampled is credited and summed, by whichever algorithm."""
        return self.policy_gradient if self.erl is None else self.erl

    @property
    def _credited_under(self) -> str:
        return "policy_gradient" if self.erl is None else "erl"

    @property
    def gradient_steps(self) -> int:
        """Optimiser steps for each rollout."""
        return self.policy_gradient.mini_batches if self.erl is None else self.erl.gradient_steps

    @property
    def replay_to_begin_with(self) -> RoutingReplay:
        """The routing replay before the run has chosen one."""
        replay = self.routing_replay
        return RoutingReplay.NONE if replay == "auto" else RoutingReplay(replay)


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML, every field written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def from_yaml(path: Path) -> RunConfig:
    """The configuration in a YAML file.

    Raises:
        UserError: the file is missing, is not YAML, or describes no valid run.
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
    """The configuration that `values` describe.

    Raises:
        UserError: it describes none; the message names every field that is wrong.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(
            f"The configuration of {where} is not valid: {describe(error, RunConfig, values)}"
        ) from error
