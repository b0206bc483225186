import json
from pathlib import Path

import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.answer_formats import AnswerFormat
from steadyrl.environments.protocol import Split
from steadyrl.environments.splits import split_of
from steadyrl.environments.verifiable_math import (
    Problem,
    VerifiableMath,
    VerifiableMathSettings,
    read_problems,
)
from tests.driving import respond


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """Sixty sums."""
    path = tmp_path / "problems.jsonl"
    rows = [{"problem": f"What is {n}/2?", "answer": f"{n}/2", "level": 1} for n in range(1, 61)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_equal_value_in_the_asked_format_earns_one(problems: Path):
    environment = VerifiableMath(VerifiableMathSettings(path=problems, timeout=20.0))
    task = environment.task(Split.TRAIN, 0)
    half = int(task.payload.split("/")[0]) / 2

    def judged(text: str) -> tuple[float, str]:
        outcome = respond(environment.start(task), text)
        assert outcome.terminated
        return outcome.reward, outcome.feedback

    assert judged(rf"It is \boxed{{{half}}}.") == (1.0, "the answer is right")
    assert judged(rf"\boxed{{{half + 1}}}") == (0.0, "the answer is wrong")
    assert judged(f"It is {half}.") == (0.0, "no answer was found in the boxed format")
    assert judged(r"\boxed{}") == (0.0, "no answer was found in the boxed format")


def test_a_comparison_without_end_is_a_wrong_answer_with_a_reason(problems: Path):
    environment = VerifiableMath(VerifiableMathSettings(path=problems, timeout=1.0))
    episode = environment.start(environment.task(Split.TRAIN, 0))
    outcome = respond(episode, r"\boxed{10^{10^{10}}}")
    assert outcome.reward == 0.0
    assert outcome.feedback == "the answer could not be checked: it took longer than 1 s"


def test_every_problem_is_in_one_split_and_a_split_starts_over(problems: Path):
    environment = VerifiableMath(VerifiableMathSettings(path=problems))
    ids = {split: {environment.task(split, i).id for i in range(60)} for split in Split}
    assert sum(len(owned) for owned in ids.values()) == 60
    assert set().union(*ids.values()) == {f"math/{number}" for number in range(1, 61)}
    size = len(ids[Split.TEST])
    assert [environment.distinct_tasks(split) for split in Split] == [*map(len, ids.values())]
    assert environment.task(Split.TEST, size) == environment.task(Split.TEST, 0)


def test_a_problem_keeps_its_split_when_the_file_is_reordered(problems: Path):
    before = VerifiableMath(VerifiableMathSettings(path=problems))
    reordered = problems.with_name("reordered.jsonl")
    reordered.write_text("\n".join(reversed(problems.read_text().splitlines())))
    after = VerifiableMath(VerifiableMathSettings(path=reordered))
    for split in Split:
        asked_before = {before.task(split, index).prompt for index in range(60)}
        assert asked_before == {after.task(split, index).prompt for index in range(60)}


@pytest.mark.parametrize(
    ("answer_format", "instruction", "ending"),
    [
        (AnswerFormat.BOXED, None, "?\n\nPut your final answer in \\boxed{}."),
        (AnswerFormat.WHOLE, None, "?"),
        (AnswerFormat.WHOLE, "Be brief.", "?\n\nBe brief."),
        (AnswerFormat.BOXED, "", "?"),
    ],
)
def test_the_instruction_follows_the_problem(
    problems: Path, answer_format: AnswerFormat, instruction: str | None, ending: str
):
    settings = VerifiableMathSettings(
        path=problems, answer_format=answer_format, instruction=instruction
    )
    (message,) = VerifiableMath(settings).task(Split.TRAIN, 0).prompt
    assert message.content.partition("?")[1:] == ("?", ending[1:])


def test_json_lists_ids_and_numbers_are_read(tmp_path: Path):
    path = tmp_path / "problems.json"
    rows = [{"id": 7, "problem": "1+1?", "answer": 2}, {"problem": "1/2?", "answer": "1/2"}]
    path.write_text(json.dumps(rows, indent=1))
    assert read_problems(path) == [
        Problem(id="7", problem="1+1?", answer="2"),
        Problem(id="2", problem="1/2?", answer="1/2"),
    ]


@pytest.mark.parametrize(
    "form", ['{"problem": "?", "answer": %s}', '[{"problem": "?", "answer": %s}]']
)
@pytest.mark.parametrize(
    "number",
    ["0.00001", "1e-5", "1E5", "1.0", "-0", "0.1000", "12345678901234567890.5", "9" * 5000],
)
def test_a_number_is_kept_as_it_is_written(tmp_path: Path, form: str, number: str):
    path = tmp_path / "problems.json"
    path.write_text(form % number)
    assert [problem.answer for problem in read_problems(path)] == [number]


def test_a_small_number_of_the_file_is_the_answer_and_no_multiple_of_e(tmp_path: Path):
    path = tmp_path / "problems.jsonl"
    problem = next(f"{n}?" for n in range(100) if split_of(f"{n}?") is Split.TRAIN)
    path.write_text(f'{{"problem": "{problem}", "answer": 0.00001}}')
    environment = VerifiableMath(VerifiableMathSettings(path=path, timeout=20.0))
    task = environment.task(Split.TRAIN, 0)
    answers = [r"0.00001", r"10^{-5}", r"1e-5", r"e - 5", r"0.00002"]
    rewards = [respond(environment.start(task), rf"\boxed{{{text}}}").reward for text in answers]
    assert rewards == [1.0, 1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "sum_counts"),
    [
        ({"answer_format": "whole"}, False),
        pytest.param(
            {"answer_format": "whole", "require_simplified": False}, True, marks=pytest.mark.slow
        ),
        ({"answer_format": "boxed"}, True),
        ({"answer_format": "boxed", "require_simplified": True}, False),
    ],
)
def test_an_answer_that_restates_the_question_is_not_worked_out(
    tmp_path: Path, settings: dict[str, object], sum_counts: bool
):
    path = tmp_path / "problems.jsonl"
    problem = next(
        f"{n}: 21 + 24 slices?"
        for n in range(99)
        if split_of(f"{n}: 21 + 24 slices?") is Split.TRAIN
    )
    path.write_text(json.dumps({"problem": problem, "answer": 45}))
    environment = VerifiableMath(VerifiableMathSettings(path=path, timeout=20.0, **settings))
    frame = "{}" if settings["answer_format"] == "whole" else r"\boxed{{{}}}"

    def judged(answer: str) -> tuple[float, str]:
        outcome = respond(environment.start(environment.task(Split.TRAIN, 0)), frame.format(answer))
        return outcome.reward, outcome.feedback

    assert judged("45 slices") == (1.0, "the answer is right")
    assert judged("21 + 24 slices")[0] == float(sum_counts)
    if not sum_counts:
        assert judged("21 + 24") == (0.0, "the answer is wrong, or not simplified")


@pytest.mark.parametrize("form", ["{}\n{}\n", "[{}, {}]"])
def test_a_mark_of_the_byte_order_is_no_part_of_a_problem(tmp_path: Path, form: str):
    path = tmp_path / "problems.json"
    rows = [json.dumps({"problem": f"{n}+1", "answer": n + 1}) for n in (1, 2)]
    path.write_text(form.format(*rows), encoding="utf-8-sig")
    assert [(p.problem, p.answer) for p in read_problems(path)] == [("1+1", "2"), ("2+1", "3")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"problem": "1+1?", "answer": "2"}\n{"problem": "2+2?"}', r"line 2 .* no field 'answer'"),
        ('\n{"answer": "2"}', r"line 2 .* no field 'problem', got the fields \['answer'\]"),
        ('{"problem": "1+1?", "answer": ["2"]}', r"line 1 .*'answer' must be .*, got \['2'\]"),
        ('{"problem": "1+1?", "answer": NaN}', r"line 1 .*'answer' must be .*, got nan"),
        ('{"problem": "1+1?", "answer": true}', r"line 1 .*'answer' must be .*, got True"),
        ('{"problem": " ", "answer": "2"}', r"line 1 .*'problem' must be"),
        ('{"problem": "1+1?", "answer": "2"', r"line 1 .* is not JSON"),
        ('["1+1?"]', r"entry 1 .* is not an object, got '1\+1\?'"),
        ('[{"problem": "1+1?", "answer": "2"}, {}]', r"entry 2 .* no field 'problem'"),
        ("[1, ", r"is not JSON"),
        ("", r"no problems in"),
    ],
)
def test_a_malformed_file_is_refused_by_row_and_field(tmp_path: Path, text: str, message: str):
    path = tmp_path / "problems.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_problems(path)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"Cannot read .*absent.jsonl"):
        read_problems(tmp_path / "absent.jsonl")


def test_an_empty_split_is_refused_when_it_is_asked(tmp_path: Path):
    path = tmp_path / "problems.jsonl"
    path.write_text('{"problem": "1+1?", "answer": "2"}')
    environment = VerifiableMath(VerifiableMathSettings(path=path))
    without_problems = next(split for split in Split if split != split_of("1+1?"))
    with pytest.raises(UserError, match=rf"No problem .* is in the {without_problems} split"):
        environment.task(without_problems, 0)
