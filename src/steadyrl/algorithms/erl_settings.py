"""Settings of Experiential RL (arXiv:2602.13949), with the paper's defaults."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from steadyrl.algorithms.erl_internalization import (
    AnyInternalization,
    NoInternalization,
)
from steadyrl.algorithms.memory import AnyMemory, NoMemory, SingleSlot
from steadyrl.algorithms.policy_gradient import CreditSettings
from steadyrl.algorithms.protocol import Algorithm
from steadyrl.algorithms.reflection import (
    AnyReflection,
    FrozenReflection,
    NoReflection,
    PolicyReflection,
    SampledReflection,
)
from steadyrl.algorithms.settings import AlgorithmContext
from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.objectives import GRPO, NLL
from steadyrl.objectives.built_in import AnyObjective


class ExperientialSettings(CreditSettings):
    """Sampling, reflection, memory and internalization of Experiential RL.

    The fields of policy gradient apply to first attempts, reflections and second attempts.
    """

    name: Literal["erl"] = "erl"

    objective: AnyObjective = GRPO(clip_low=0.2, clip_high=0.28)
    """Objective to maximize for each token: a built-in or custom one."""

    advantage: Literal["group_mean", "group_mean_std", "leave_one_out"] = "group_mean_std"
    """Baseline of each reward within its group: same task and same part of the episode. The
    baseline of second attempts mixes prompts, since each has its own reflection."""

    group_size: int = Field(4, ge=1)
    """Episodes per prompt."""

    threshold: float = Field(1.0, allow_inf_nan=False)
    """First attempts with a reward below this are reflected on. Second attempts with at least this
    reward store their reflection in the memory."""

    gate: bool = True
    """Whether only failed first attempts are reflected on. False: all of them."""

    reflection: AnyReflection = PolicyReflection()
    """Model that reflects, and format of reflections."""

    memory: AnyMemory = SingleSlot()
    """Memory of successful reflections, which later reflections read."""

    group_of_one: Literal["reward", "zero"] = "reward"
    """Advantage of an episode without others in its group: its reward, or 0."""

    internalization: AnyInternalization = NLL()
    """Training on second attempts without their reflections."""

    internalization_coefficient: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Weight of the rows of internalization; all others have weight 1."""

    updates: Literal["mixed", "sequential"] = "mixed"
    """mixed: all parts of the episodes in each optimizer step, as in the paper's code. sequential:
    one step on first attempts, one on reflections and second attempts, and one on internalization,
    as in its algorithm 2."""

    @model_validator(mode="after")
    def _check_parts(self) -> "ExperientialSettings":
        if self.updates == "sequential" and self.mini_batches > 1:
            raise ValueError(
                f"updates is 'sequential' with mini_batches {self.mini_batches}: the three "
                "updates of a step are its mini-batches. Set mini_batches to 1, or updates to "
                "'mixed'."
            )
        if isinstance(self.reflection, NoReflection) and not isinstance(self.memory, NoMemory):
            raise ValueError(
                f"reflection is 'none', so the memory {self.memory.name!r} would never be "
                "written. Set memory to 'none' as well."
            )
        coefficient = self.internalization_coefficient
        if isinstance(self.internalization, NoInternalization) and coefficient != 1:
            raise ValueError(
                f"internalization_coefficient is {coefficient}, but internalization is 'none', so "
                "it has no effect. Remove one of them."
            )
        return self

    @property
    def learns_from_groups_of_one(self) -> bool:
        """Whether an episode without others in its group can have an advantage."""
        return self.group_of_one == "reward"

    @property
    def gradient_steps(self) -> int:
        """Optimizer steps per rollout if no part is empty."""
        return 3 if self.updates == "sequential" else self.mini_batches

    @property
    def needs_reference(self) -> bool:
        """Whether the loss or the reflections use the initial weights of the stage."""
        return super().needs_reference or isinstance(self.reflection, FrozenReflection)

    def check_fits(self, environment: EnvironmentSettings) -> None:
        """Checks that attempts at tasks of `environment` can be reflected on."""
        if environment.runs_agents:
            raise ValueError(
                f"the environment {environment.name!r} runs agent programs, which cannot be given "
                "a reflection for a second attempt. Use algorithm 'policy_gradient'."
            )
        super().check_fits(environment)

    def learned_samplings(self) -> Mapping[str, Sampling]:
        """Sampling of reflections, if they are trained on."""
        if not isinstance(self.reflection, PolicyReflection):
            return {}
        return {"reflection.sampling": self.reflection.sampling}

    def make(self, context: AlgorithmContext) -> Algorithm:
        """The algorithm.

        Raises:
            UserError: the model has no room for reflections.
        """
        from steadyrl.algorithms.erl import ExperientialRL

        if isinstance(self.reflection, SampledReflection):
            self._check_room(self.reflection.sampling.max_new_tokens, context.max_positions)
        return ExperientialRL(
            self,
            environment=context.environment,
            tokenizer=context.tokenizer,
            sampling=context.sampling,
            seed=context.seed,
            make_engine=context.make_engine,
            progress=context.progress,
        )

    def _check_room(self, budget: int, limit: int | None) -> None:
        if limit is not None and budget >= limit:
            raise UserError(
                f"algorithm.reflection.sampling.max_new_tokens is {budget}, but prompt and "
                f"reflection together may have {limit} tokens in this model, which leaves no room "
                "for reflections. Lower it, or use a model with more positions."
            )
