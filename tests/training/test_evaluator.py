"""When a run is evaluated."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import Request, Sampling
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.evaluation.accuracy import EvaluationSettings
from steadyrl.policies.tokenizers import character_tokenizer
from steadyrl.records.completion import Completion
from steadyrl.records.run_folder import RunFolder
from steadyrl.training.evaluator import Evaluator
from steadyrl.training.journal import Journal, JournalSettings
from steadyrl.training.loop import evaluate_at_first
from steadyrl.training.stage import RunPosition, Stage
from tests.rollout.fakes import TOKENIZER, Quiz, ScriptedEngine, ShortQuiz
from tests.training.test_loop import Scripted, stage_of


class Asked(Exception):
    """The evaluator has gone to work."""


class Interrupting(ScriptedEngine):
    """An engine that only says how it was asked."""

    def answer(self, requests: Sequence[Request]) -> list[list[Completion]]:
        raise Asked([(r.prompt_ids.tolist(), r.num_completions, r.seed) for r in requests])


def asked(stage: Stage, step: int) -> object:
    """What the engine is asked in the evaluation after `step` steps; None where none is due."""
    evaluator = Evaluator(
        EvaluationSettings(tasks=3, samples=2),
        environment=Arithmetic(ArithmeticSettings()),
        tokenizer=character_tokenizer(),
        sampling=Sampling(),
        seed=4,
    )
    try:
        return drive(evaluator.evaluate(stage, step, Interrupting(lambda *_: "")))
    except Asked as question:
        return question.args


@pytest.mark.parametrize(
    ("every", "due"),
    [(None, []), (3, [0, 3, 6, 7]), (7, [0, 7]), (50, [0, 7]), (1, list(range(8)))],
)
def test_first_every_nth_and_last_state_are_evaluated(every: int | None, due: list[int]) -> None:
    stage = stage_of(Scripted([]), steps=7, evaluate_every=every)

    assert [step for step in range(8) if asked(stage, step) is not None] == due


def test_every_evaluation_asks_the_same_tasks_with_the_same_random_numbers() -> None:
    stage = stage_of(Scripted([]), steps=7, evaluate_every=1)
    (questions,) = asked(stage, 0)

    assert asked(stage, 3) == (questions,)
    assert [count for _, count, _ in questions] == [2, 2, 2]
    assert len({seed for *_, seed in questions}) == 3


@pytest.mark.parametrize(("there", "noted"), [(2, True), (3, False), (None, False)])
def test_too_few_held_out_tasks_are_noted(tmp_path: Path, there: int | None, noted: bool) -> None:
    evaluator = Evaluator(
        EvaluationSettings(tasks=3, samples=1),
        environment=ShortQuiz(there),
        tokenizer=TOKENIZER,
        sampling=Sampling(max_new_tokens=8),
        seed=4,
    )
    stage, folder = stage_of(Scripted([]), steps=7, evaluate_every=1), RunFolder(tmp_path)
    journal = Journal(folder, JournalSettings(), [stage], RunPosition())
    drive(evaluate_at_first(stage, ScriptedEngine(lambda *_: "right"), evaluator, journal))

    told = "Evaluation: the test split has only 2 tasks, 3 were requested. Scores are"
    assert [note["note"].startswith(told) for note in folder.read_notes()] == [True] * noted
    assert [row["score"] for row in folder.read_metrics()] == [1.0]


def test_a_run_does_not_begin_with_an_environment_that_fails_always() -> None:
    evaluator = Evaluator(
        EvaluationSettings(tasks=3, samples=2),
        environment=Quiz(),
        tokenizer=TOKENIZER,
        sampling=Sampling(max_new_tokens=8),
        seed=4,
    )
    stage = stage_of(Scripted([]), steps=7, evaluate_every=1)
    crashing = ScriptedEngine(lambda *_: "crash")
    with pytest.raises(UserError, match="could be judged: 6 failed"):
        drive(evaluator.evaluate(stage, 0, crashing))
    later = drive(evaluator.evaluate(stage, 1, crashing))
    assert later is not None
    assert later.metrics() == {
        "score_failed_fraction": 1.0,
        "score_failed_tasks": later.failed_tasks,
    }
    assert later.failed_tasks == len(later.groups)
