"""The studies of stale rollouts: what is run."""

import pytest

from steadyrl.lab.stale_rollouts import BOUNDS, stale_rollouts
from steadyrl.policies.numerics import Numerics


@pytest.mark.parametrize("bound", BOUNDS[1:])
def test_studies_differ_in_the_age_of_rollouts_alone(bound: int) -> None:
    fresh, stale = (stale_rollouts(Numerics.FP8, bound=each) for each in (0, bound))

    assert len(stale.conditions) == 6
    assert len(stale.seeds) == 5
    for before, after in zip(fresh.conditions, stale.conditions, strict=True):
        assert before.name == after.name
        assert (before.config.engine.steps_ahead, after.config.engine.steps_ahead) == (0, bound)
        assert after.config.model_copy(update={"engine": before.config.engine}) == before.config
        assert after.config.journal.checkpoint_every == after.config.steps > bound
