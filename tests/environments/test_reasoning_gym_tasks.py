import random
import sys

import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.protocol import Split
from steadyrl.environments.reasoning_gym_tasks import (
    ReasoningGym,
    ReasoningGymSettings,
    seeded_random,
)
from steadyrl.environments.splits import split_of
from tests.driving import respond

DATASETS = (
    "chain_sum",
    "basic_arithmetic",
    "gcd",
    "lcm",
    "spell_backward",
    "letter_counting",
    "simple_equations",
    "number_sequence",
)


@pytest.mark.parametrize("dataset", DATASETS)
def test_only_the_oracle_answer_earns_one(dataset: str):
    environment = ReasoningGym(ReasoningGymSettings(dataset=dataset, timeout=20.0))
    for index in range(2):
        task = environment.task(Split.TRAIN, index)
        oracle = task.payload["answer"]
        wrong = [oracle + "7", f"it is {oracle}", f"{oracle} or 8", "no idea", ""]
        rewards = [respond(environment.start(task), text).reward for text in (oracle, *wrong)]
        assert rewards == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_partial_credit_is_told_but_not_paid():
    environment = ReasoningGym(ReasoningGymSettings(dataset="number_sequence", timeout=20.0))
    task = environment.task(Split.TRAIN, 0)
    outcome = respond(environment.start(task), "it is " + task.payload["answer"])
    assert outcome.reward == 0.0
    assert outcome.feedback.startswith("the answer is wrong: it earned 0.")


@pytest.mark.parametrize("dataset", [*DATASETS, "list_functions"])
def test_tasks_are_the_same_at_any_time_and_in_any_order(dataset: str):
    settings = ReasoningGymSettings(dataset=dataset, size=20)
    first, second = ReasoningGym(settings), ReasoningGym(settings)
    forwards = [first.task(Split.TRAIN, index) for index in range(20)]
    random.seed(99)
    backwards = [second.task(Split.TRAIN, index) for index in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert first.task(Split.TRAIN, 20) == forwards[0]


def test_python_s_global_generator_is_left_as_it_was():
    before = random.getstate()
    with seeded_random(5):
        first = random.random()
    assert random.getstate() == before
    with seeded_random(5):
        assert random.random() == first


def test_seeds_and_knobs_give_other_tasks():
    def questions(**settings: object) -> list[str]:
        environment = ReasoningGym(ReasoningGymSettings(dataset="chain_sum", **settings))
        return [environment.task(Split.TRAIN, i).prompt[0].content for i in range(20)]

    assert not set(questions(seed=0)) & set(questions(seed=1))
    short = questions(knobs={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1})
    assert all(len(question.rpartition(": ")[2]) == len("1 + 2 =") for question in short)


def test_splits_share_no_question_even_in_a_small_world():
    # Two terms of one digit: 200 questions, each of which all three seeds come upon.
    knobs = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    environment = ReasoningGym(ReasoningGymSettings(dataset="chain_sum", knobs=knobs, size=300))
    asked = {split: {environment.task(split, i).prompt for i in range(300)} for split in Split}
    assert asked[Split.TRAIN].isdisjoint(asked[Split.VALIDATION] | asked[Split.TEST])
    assert asked[Split.VALIDATION].isdisjoint(asked[Split.TEST])
    assert all(len(questions) > 5 for questions in asked.values())
    assert environment.distinct_tasks(Split.TEST) == 300
    assert environment.task(Split.TEST, 300) == environment.task(Split.TEST, 0)


def test_a_world_of_one_question_is_refused_for_the_splits_that_do_not_own_it():
    knobs = {"min_terms": 1, "max_terms": 1, "min_digits": 1, "max_digits": 1}
    environment = ReasoningGym(ReasoningGymSettings(dataset="chain_sum", knobs=knobs))
    owners = {
        split_of(f"State the final answer to the following arithmetic problem: {number} =")
        for number in range(10)
    }
    homeless = set(Split) - owners
    assert homeless
    for split in homeless:
        with pytest.raises(UserError, match=f"too few questions .* {split} split"):
            environment.task(split, 0)


@pytest.mark.parametrize(
    ("answer_format", "template"),
    [
        (AnswerFormat.BOXED, r"I think \boxed{{1}}, no: \boxed{{{}}}."),
        (AnswerFormat.BOXED, r"So \boxed{{\text{{{}}}}}."),
        (AnswerFormat.TAG, "<answer>1</answer> no <answer>{}</answer>"),
    ],
)
def test_the_answer_is_cut_out_of_the_response(answer_format: AnswerFormat, template: str):
    settings = ReasoningGymSettings(
        dataset="spell_backward", answer_format=answer_format, timeout=20.0
    )
    environment = ReasoningGym(settings)
    task = environment.task(Split.TRAIN, 0)
    response = template.format(task.payload["answer"])
    assert respond(environment.start(task), response).reward == 1.0
    outcome = respond(environment.start(task), task.payload["answer"])
    assert outcome.reward == 0.0
    assert outcome.feedback == f"no answer was found in the {answer_format} format"


def test_a_scorer_that_fails_on_the_answer_counts_as_wrong_with_a_reason():
    environment = ReasoningGym(ReasoningGymSettings(dataset="prime_factorization", timeout=20.0))
    outcome = respond(environment.start(environment.task(Split.TRAIN, 0)), "no idea")
    assert outcome.reward == 0.0
    assert outcome.feedback == "the answer is wrong: it cannot be parsed (ValueError)"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("exit()", "raised SystemExit"), ("[0]*9**9**9", "took longer than 1 s")],
)
def test_an_answer_that_a_scorer_evaluates_cannot_stop_the_run(answer: str, reason: str):
    environment = ReasoningGym(ReasoningGymSettings(dataset="n_queens", timeout=1.0))
    task = environment.task(Split.TRAIN, 0)
    outcome = respond(environment.start(task), answer)
    assert outcome.reward == 0.0
    assert reason in outcome.feedback
    solution = task.payload["metadata"]["valid_answers"][0]
    assert respond(environment.start(task), solution).reward == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "chain_sums"}, r"no dataset 'chain_sums'. Did you mean 'chain_sum'"),
        ({"dataset": "zzzzzz"}, r"no dataset 'zzzzzz'. It has: ab, acre"),
        (
            {"dataset": "chain_sum", "knobs": {"max_term": 3}},
            r"no knob 'max_term'. Did you mean 'max_terms'",
        ),
        ({"dataset": "chain_sum", "knobs": {"size": 3}}, r"no knob 'size'"),
        (
            {"dataset": "chain_sum", "knobs": {"min_terms": 9}},
            r"rejects the knobs \{'min_terms': 9\} .*max_terms must be >= min_terms",
        ),
        ({"dataset": "chain_sum", "knobs": {"min_terms": "many"}}, r"rejects the knobs"),
        (
            {"dataset": "calendar_arithmetic", "knobs": {"tasks": [1]}},
            r"rejects the knobs \{'tasks': \[1\]\} of 'calendar_arithmetic': 'int' object has no",
        ),
        (
            {"dataset": "composite", "knobs": {"datasets": [{"name": "gcd"}]}},
            r"rejects the knobs .* of 'composite': 'dict' object has no attribute 'name'",
        ),
    ],
)
def test_unknown_or_refused_settings_are_named(settings: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        ReasoningGym(ReasoningGymSettings(**settings))


@pytest.mark.skipif(not sys.flags.hash_randomization, reason="PYTHONHASHSEED is set")
def test_a_dataset_that_changes_with_each_process_is_refused():
    with pytest.raises(UserError, match=r"'word_ladder' follows the order .* PYTHONHASHSEED=0"):
        ReasoningGym(ReasoningGymSettings(dataset="word_ladder"))


def test_a_missing_reasoning_gym_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(UserError, match=r"reasoning_gym.*pip install 'steadyrl\[tasks\]'"):
        ReasoningGym(ReasoningGymSettings(dataset="chain_sum"))
