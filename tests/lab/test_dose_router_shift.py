"""Router-shift weights in the world of the doses: what is run."""

from steadyrl.lab.dose_router_shift import LINES, STEPS, router_shift
from steadyrl.lab.sweep import place
from steadyrl.policies.numerics import Numerics


def test_lines_differ_in_objective_and_replay_alone() -> None:
    values = {c.name: c.config.model_dump() for c in router_shift(Numerics.FLOAT32).conditions}
    for steps in STEPS:
        at_steps = [values[place(line, steps)] for line in LINES]
        names = [each["algorithm"].pop("objective")["name"] for each in at_steps]
        replays = [each.pop("routing_replay") for each in at_steps]
        assert (names, replays) == (["grpo", "rspo", "grpo"], ["none", "none", "r2"])
        assert at_steps[0] == at_steps[1] == at_steps[2]
        assert at_steps[0]["algorithm"]["mini_batches"] == steps
