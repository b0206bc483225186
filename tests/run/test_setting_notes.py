"""What a run says of settings that do less than one may expect."""

from pathlib import Path

import pytest
from transformers import GenerationConfig

from steadyrl.learners.optimizer import OptimizerSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.run.assembly import Assembly
from steadyrl.run.setting_notes import generation_note, warm_up_notes
from tests.run.checkpoints import write_checkpoint
from tests.run.tiny import tiny_run


def test_sampling_parameters_of_a_checkpoint_are_told_to_be_left_out(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    asked = GenerationConfig(eos_token_id=1, do_sample=True, temperature=0.6, top_k=20)
    asked.save_pretrained(path)
    config = tiny_run(model=Pretrained(path=str(path)), routing_replay="none", cold_start=None)
    assembly = Assembly.of(config)
    try:
        (note,) = assembly.notes
    finally:
        assembly.close()
    assert note == (
        "generation_config.json of the checkpoint asks for temperature 0.6, top_k 20. It is not "
        "applied: responses are sampled as `sampling` says."
    )


@pytest.mark.parametrize(
    "config",
    [
        None,
        GenerationConfig(eos_token_id=1),
        GenerationConfig(temperature=1.0, top_p=1.0, top_k=0, repetition_penalty=1.0),
    ],
)
def test_neutral_parameters_are_not_told(config: GenerationConfig | None) -> None:
    assert generation_note(config) is None


def test_a_warm_up_that_outlasts_its_stage_is_told() -> None:
    long = OptimizerSettings(learning_rate=1e-3, warmup_steps=10)
    (note,) = warm_up_notes(tiny_run(optimizer=long, steps=5))
    assert note == (
        "optimizer.warmup_steps is 10, but there are 5 steps: the learning rate ends at 0.0005 and "
        "never reaches 0.001."
    )
    assert warm_up_notes(tiny_run(optimizer=long, steps=10)) == ()
    assert warm_up_notes(tiny_run(optimizer=long, steps=0)) == ()
    start = tiny_run().cold_start
    assert start is not None
    slow = start.model_copy(update={"optimizer": long})
    (note,) = warm_up_notes(tiny_run(cold_start=slow))
    assert note.startswith("cold_start.optimizer.warmup_steps is 10, but there are 6 steps")
