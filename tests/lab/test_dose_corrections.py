"""Corrections under weight noise: what is run."""

from steadyrl.lab.dose_corrections import DOSES, EXACT, LINES, corrections
from steadyrl.lab.sweep import place
from steadyrl.policies.numerics import Numerics


def test_lines_differ_in_objective_and_correction_alone() -> None:
    study = corrections(Numerics.FLOAT32)
    values = {condition.name: condition.config.model_dump() for condition in study.conditions}
    for dose in DOSES:
        rest = []
        for line in LINES:
            each = values[place(line, dose)]
            assert each["engine"]["weight_noise"] == dose
            each["algorithm"].pop("objective")
            each["algorithm"].pop("correction")
            rest.append(each)
        assert all(each == rest[0] for each in rest)


def test_the_ground_truth_is_the_trainer_s_own_log_probabilities() -> None:
    study = corrections(Numerics.FLOAT32)
    configs = {condition.name: condition.config for condition in study.conditions}
    exact, engine = (configs[place(line, 0.0)].model_dump() for line in (EXACT, "MiniRL"))

    assert exact["learner"].pop("rollout_logprobs") == "trainer"
    assert engine["learner"].pop("rollout_logprobs") == "engine"
    assert exact == engine
    assert EXACT not in corrections(Numerics.FP8).lines
