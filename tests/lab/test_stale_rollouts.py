"""The study of stale rollouts: what is run."""

import pytest

from steadyrl.lab.stale_rollouts import BOUNDS, stale_rollouts
from steadyrl.lab.sweep import place
from steadyrl.policies.numerics import Numerics

STUDY = stale_rollouts(Numerics.FP8)


@pytest.mark.parametrize("bound", BOUNDS[1:])
def test_points_of_a_line_differ_in_the_age_of_rollouts_alone(bound: float) -> None:
    configs = {condition.name: condition.config for condition in STUDY.conditions}

    assert len(STUDY.lines) == 6
    assert len(STUDY.seeds) == 5
    for line in STUDY.lines:
        fresh, stale = (configs[place(line, point)] for point in (0.0, bound))
        assert (fresh.engine.steps_ahead, stale.engine.steps_ahead) == (0, bound)
        assert stale.model_copy(update={"engine": fresh.engine}) == fresh
        # A checkpoint in between would interrupt what is sampled ahead.
        assert stale.journal.checkpoint_every == stale.steps > bound
