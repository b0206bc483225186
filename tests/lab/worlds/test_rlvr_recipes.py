"""Reinforcement alone learns from its attempts as Experiential RL does from its own."""

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.policy_gradient import CreditSettings
from steadyrl.lab.worlds.rlvr_recipes import attempts_alone
from steadyrl.objectives import Aggregation, ReferenceKL, Truncation


def test_attempts_alone_differ_in_their_number_and_their_turns_alone() -> None:
    erl = ExperientialSettings(
        correction=Truncation(),
        aggregation=Aggregation.CONSTANT,
        constant_length=7,
        mini_batches=2,
        max_turns=3,
        reference_kl=ReferenceKL(coefficient=0.1),
    )
    alone = attempts_alone(erl)
    differing = {
        name: getattr(alone, name)
        for name in CreditSettings.model_fields
        if getattr(alone, name) != getattr(erl, name)
    }
    own_name = {"name": "policy_gradient"}
    assert differing == own_name | {"group_size": 12, "max_turns": 6}
