"""Settings of Experiential RL (arXiv:2602.13949). Defaults are the paper's."""

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
from steadyrl.objectives import GRPO, NLL
from steadyrl.objectives.built_in import AnyObjective


class ExperientialSettings(CreditSettings):
    """What to sample, when to reflect, and how each part of an episode is learned from.

    The fields of policy gradient hold for first attempts, reflections and second attempts alike.
    """

    name: Literal["erl"] = "erl"

    objective: AnyObjective = GRPO(clip_low=0.2, clip_high=0.28)
    """What is maximized, token by token: a built-in objective, or one of your own."""

    advantage: Literal["group_mean", "group_mean_std", "leave_one_out"] = "group_mean_std"
    """Baseline of each reward within its group: the same task and the same part of the episode. The
    baseline of second attempts mixes prompts, since each was guided by its own reflection."""

    group_size: int = Field(4, ge=1)
    """Episodes for each prompt."""

    threshold: float = Field(1.0, allow_inf_nan=False)
    """A first attempt whose reward is below it is reflected on. A second attempt whose reward is
    not below it writes its reflection into the memory."""

    gate: bool = True
    """False: every first attempt is reflected on, solved ones too."""

    reflection: AnyReflection = PolicyReflection()
    """Who reflects, and in what form."""

    memory: AnyMemory = SingleSlot()
    """What is remembered of reflections that worked; the next reflections read it."""

    group_of_one: Literal["reward", "zero"] = "reward"
    """Advantage of an episode whose group has no other: its reward, or nothing."""

    internalization: AnyInternalization = NLL()
    """How second attempts are learned without their reflections."""

    internalization_coefficient: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Weight of the rows of internalisation; all others have weight 1."""

    updates: Literal["mixed", "sequential"] = "mixed"
    """mixed: all parts of the episodes in each optimiser step, as in the paper's code. sequential:
    one step on first attempts, one on reflections and second attempts, one on internalisation, as
    in its algorithm 2."""

    @model_validator(mode="after")
    def _check_combination(self) -> "ExperientialSettings":
        if self.updates == "sequential" and self.mini_batches > 1:
            raise ValueError(
                f"updates is 'sequential' with mini_batches {self.mini_batches}: the three "
                "updates of a step are its mini-batches. Set mini_batches to 1, or updates to "
                "'mixed'."
            )
        if isinstance(self.reflection, NoReflection) and not isinstance(self.memory, NoMemory):
            raise ValueError(
                f"reflection is 'none', so that the memory {self.memory.name!r} would never be "
                "written. Set memory to 'none' as well."
            )
        coefficient = self.internalization_coefficient
        if isinstance(self.internalization, NoInternalization) and coefficient != 1:
            raise ValueError(
                f"internalization_coefficient is {coefficient}, but internalization is 'none', so "
                "that nothing has this weight. Leave one of them out."
            )
        return self

    @property
    def learns_from_groups_of_one(self) -> bool:
        """Whether an episode whose group has no other may have an advantage."""
        return self.group_of_one == "reward"

    @property
    def gradient_steps(self) -> int:
        """Optimiser steps for each rollout, when no part of it is empty."""
        return 3 if self.updates == "sequential" else self.mini_batches

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads the weights with which the stage began, or these reflect."""
        return super().needs_reference or isinstance(self.reflection, FrozenReflection)

    @property
    def overlap_unsupported_reason(self) -> str | None:
        """Why rollouts cannot come from another process, or older weights would go uncorrected."""
        if isinstance(self.reflection, FrozenReflection):
            return (
                "algorithm.reflection is 'held': the policy that is held belongs to the training "
                "process, and rollouts come from another one. Set engine.overlap to false, or "
                "algorithm.reflection to 'policy'."
            )
        return super().overlap_unsupported_reason

    def learned_samplings(self) -> Mapping[str, Sampling]:
        """How reflections are drawn, if they are trained on."""
        if not isinstance(self.reflection, PolicyReflection):
            return {}
        return {"reflection.sampling": self.reflection.sampling}

    def make(self, context: AlgorithmContext) -> Algorithm:
        """The algorithm.

        Raises:
            UserError: no reflection would have room in the model.
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
                f"algorithm.reflection.sampling.max_new_tokens is {budget}, but prompt and answer "
                f"together may have {limit} tokens in this model: no reflection would have room, "
                "and nothing would be learned but first attempts. Lower it, or choose a model of "
                "more positions."
            )
