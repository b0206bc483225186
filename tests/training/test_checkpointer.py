"""When checkpoints are written, how many stay, and what the reference of a stage is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.checkpointer import Checkpointer
from steadyrl.training.journal import JournalSettings
from steadyrl.training.stage import RunPosition, Stage
from tests.learners.small import Idle, largest_difference, move_weights, tiny_learner, weights_of

STAGE = Stage(name="rl", algorithm=Idle(), steps=5, optimizer=OptimizerSettings(), temperature=1.0)


def checkpointer_in(path: Path, **settings: Any) -> Checkpointer:
    return Checkpointer(RunFolder(path), JournalSettings(**settings))


def test_checkpoints_are_kept_as_often_and_as_many_as_asked(tmp_path: Path) -> None:
    checkpointer = checkpointer_in(tmp_path, checkpoint_every=2, keep_checkpoints=2)
    learner = tiny_learner()
    seen = []
    for number in range(1, 6):
        if checkpointer.is_due(STAGE, number):
            checkpointer.save(STAGE, RunPosition(stage=1, step=number), learner, None)
        kept = (tmp_path / "checkpoints").glob("*")
        seen.append(sorted(int(path.name.removeprefix("rl-")) for path in kept))

    assert seen == [[], [2], [2], [2, 4], [4, 5]]  # the last step of the stage has one


def test_checkpoints_hold_what_the_algorithm_remembers(tmp_path: Path) -> None:
    checkpointer, learner = checkpointer_in(tmp_path, checkpoint_every=1), tiny_learner()
    checkpointer.save(STAGE, RunPosition(stage=1, step=1), learner, {"texts": ["a"]})
    checkpointer.save(STAGE, RunPosition(stage=1, step=2), learner, None)
    with_state, without = sorted((tmp_path / "checkpoints").iterdir())

    state = json.loads((with_state / "algorithm_state.json").read_text())
    assert state == {"texts": ["a"]}
    assert not (without / "algorithm_state.json").exists()


def test_a_stage_is_held_to_the_weights_it_began_with_after_a_resume_too(tmp_path: Path) -> None:
    checkpointer, learner = checkpointer_in(tmp_path), tiny_learner()
    held = replace(STAGE, needs_reference=True)
    begun = weights_of(learner)
    checkpointer.load_reference(held, learner, fresh=True)
    move_weights(learner)
    for resumed in (learner, tiny_learner()):
        checkpointer.load_reference(held, resumed, fresh=False)
        reference = dict(resumed.publish_reference().tensors("model"))
        assert largest_difference(reference, begun) == 0
    assert largest_difference(weights_of(learner), begun) > 0


def test_a_stage_without_reference_drops_that_of_the_stage_before(tmp_path: Path) -> None:
    checkpointer, learner = checkpointer_in(tmp_path), tiny_learner()
    checkpointer.load_reference(replace(STAGE, needs_reference=True), learner, fresh=True)
    assert learner.reference is not None
    checkpointer.load_reference(STAGE, learner, fresh=True)
    assert learner.reference is None
