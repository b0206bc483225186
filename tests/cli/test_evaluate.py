"""What `steadyrl evaluate` measures, and what it says of it."""

from pathlib import Path

from steadyrl.cli.evaluate import EvaluateOptions, told, wanted
from steadyrl.engines.protocol import Sampling
from steadyrl.environments.protocol import Split
from steadyrl.evaluation.accuracy import Accuracy, EvaluationSettings, measure_accuracy
from tests.rollout.fakes import TOKENIZER, Quiz, ScriptedEngine


def measured(*words: str) -> Accuracy:
    """Of one task, to which these are the answers."""
    return measure_accuracy(
        EvaluationSettings(tasks=1, samples=len(words)),
        environment=Quiz(),
        engine=ScriptedEngine(lambda _prompt, number, _call: words[number]),
        tokenizer=TOKENIZER,
        sampling=Sampling(max_new_tokens=8),
        seed=1,
    )


def test_what_the_environment_broke_off_is_told_and_not_counted() -> None:
    assert told("rl-000002", measured("right", "x"), asked=1) == [
        "rl-000002, 1 test tasks: avg@2 0.500, pass@2 1.000"
    ]
    assert told("rl-000002", measured("right", "x", "crash", "right"), asked=1) == [
        "rl-000002, 1 test tasks: avg@4 0.667, pass@4 not measured",
        "The environment failed in 25.0% of the episodes, which are left out; pass@4 is of tasks "
        "in which it never did.",
    ]


def test_what_is_not_asked_for_is_as_in_the_run() -> None:
    own = EvaluationSettings(split=Split.VALIDATION, tasks=500, samples=16, temperature=0.6)
    run = Path("runs/a")
    assert wanted(EvaluateOptions(run=run), own) == own
    options = EvaluateOptions(run=run, split=Split.TEST, samples=8)
    changes = {"split": Split.TEST, "samples": 8}
    assert wanted(options, own) == own.model_copy(update=changes)
