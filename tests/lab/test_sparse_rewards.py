"""Sparse rewards: what is run, and on what condition claims are decided."""

import pytest

from steadyrl.lab.catalog import STUDIES
from steadyrl.lab.running import cold_start
from steadyrl.lab.sparse_rewards import GUESS, WORLDS
from steadyrl.policies.numerics import Numerics


@pytest.mark.parametrize("world", WORLDS)
def test_runs_share_a_cold_start_whose_guesses_are_wrong(world: str) -> None:
    study = STUDIES[f"erl-sparse-{world}"](Numerics.FLOAT32)
    starts = {
        cold_start(c.run(seed)).model_dump_json() for c in study.conditions for seed in (0, 7)
    }
    teacher = study.conditions[0].config.model_dump()["cold_start"]["teacher"]

    assert len(starts) == 1
    assert teacher["prior"]
    assert study.conditions[0].config.steps == study.conditions[1].config.steps


@pytest.mark.parametrize("world", WORLDS)
def test_claims_about_sparse_rewards_need_sparse_rewards(world: str) -> None:
    first, *others = STUDIES[f"erl-sparse-{world}"](Numerics.FLOAT32).claims
    assert [c.second for c in first.comparisons] == [GUESS]
    assert all(claim.premise == first.comparisons for claim in others)
