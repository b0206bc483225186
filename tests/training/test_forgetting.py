"""What a run keeps of off-task texts."""

from pathlib import Path

import pytest
import torch

from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Sampling
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.records.run_folder import RunFolder, read_json_lines
from steadyrl.training.evaluator import Evaluator
from steadyrl.training.forgetting import measure_drift
from steadyrl.training.journal import Journal, JournalSettings
from steadyrl.training.stage import RunPosition
from tests.learners.small import tiny_learner
from tests.rollout.fakes import Quiz, ScriptedEngine
from tests.training.test_loop import Scripted, stage_of


def test_the_drift_is_the_change_since_the_stage_began(tmp_path: Path) -> None:
    folder, learner = RunFolder(tmp_path), tiny_learner()
    stage = stage_of(Scripted([]), steps=4, evaluate_every=2)
    evaluator = Evaluator(
        EvaluationSettings(drift="always"),
        environment=Quiz(),
        tokenizer=learner.policy.tokenizer,
        sampling=Sampling(),
        seed=1,
    )
    engine = ScriptedEngine(lambda *_: "said")
    journal = Journal(folder, JournalSettings(), [stage], RunPosition())
    measured = []
    for step in range(5):
        drift = drive(measure_drift(stage, step, learner, engine, evaluator, journal))
        measured.append(drift)
        journal.record(stage, step, drift, (), None)
        with torch.no_grad():
            for weight in learner.policy.model.parameters():
                weight.mul_(1.1)
        if step == 2:  # as after a resume: the beginning is on record
            journal = Journal(folder, JournalSettings(), [stage], RunPosition(step=2))

    begun, middle, last = (measured[step] for step in (0, 2, 4))
    assert measured[1] == measured[3] == {}
    assert begun["drift_loglikelihood"] == 0
    for later in (middle, last):
        change = later["general_loglikelihood"] - begun["general_loglikelihood"]
        assert later["drift_loglikelihood"] == pytest.approx(change)
        assert abs(change) > 0.01
    kept = {p.name: read_json_lines(p) for p in sorted(folder.completions.glob("drift_rl-*"))}
    assert list(kept) == [f"drift_rl-{step:06d}.jsonl" for step in (0, 2, 4)]
    assert [rows[0]["response"] for rows in kept.values()] == ["said", None, "said"]
    for drift, rows in zip((begun, middle, last), kept.values(), strict=True):
        total = sum(row["loglikelihood"] for row in rows) / sum(row["tokens"] for row in rows)
        assert drift["general_loglikelihood"] == pytest.approx(total)
