"""Depth, length and the trainer's type: what is run."""

import pytest

from steadyrl.lab.dose_sweeps import LAYERS, OPERANDS, depth, length, trainer_type
from steadyrl.lab.sweep import SweepStudy
from steadyrl.policies.numerics import Numerics

DEPTH, LENGTH = depth(Numerics.FLOAT32), length(Numerics.FLOAT32)


@pytest.mark.parametrize("study", [DEPTH, LENGTH], ids=["depth", "length"])
def test_lines_differ_in_noise_and_replay_alone(study: SweepStudy) -> None:
    configs = {condition.name: condition.config.model_dump() for condition in study.conditions}
    for point in study.points:
        values = [configs[f"{line}, {point:g}"] for line in study.lines]
        treatments = [
            (each["engine"].pop("routing_noise"), each.pop("routing_replay")) for each in values
        ]
        assert values[0] == values[1] == values[2]
        assert treatments == [(0.0, "none"), (0.354, "none"), (0.354, "r3")]


def test_points_are_layers_and_operands_whose_answers_have_room() -> None:
    layers = [condition.config.model_dump()["model"]["layers"] for condition in DEPTH.conditions]
    assert layers == list(LAYERS) * 3
    for condition in LENGTH.conditions:
        values = condition.config.model_dump()
        operands = values["environment"]["operands"]
        # Two digits and a comma for each partial result.
        assert values["sampling"]["max_new_tokens"] > 3 * (operands - 1)
    assert [c.config.model_dump()["environment"]["operands"] for c in LENGTH.conditions] == [
        *OPERANDS * 3
    ]


def test_the_trainer_s_type_is_all_that_differs_between_pairs() -> None:
    study = trainer_type(Numerics.BFLOAT16)
    values = {condition.name: condition.config.model_dump() for condition in study.conditions}
    for replay in ("no replay", "R3"):
        one, other = (values[f"{dtype} trainer, {replay}"] for dtype in ("float32", "bfloat16"))
        assert (one["learner"].pop("dtype"), other["learner"].pop("dtype")) == (
            "float32",
            "bfloat16",
        )
        assert one == other
