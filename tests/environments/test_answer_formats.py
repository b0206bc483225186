import pytest

from steadyrl.environments.answer_formats import AnswerFormat, extract_answer, format_instruction


@pytest.mark.parametrize(
    ("answer_format", "response", "answer"),
    [
        (AnswerFormat.WHOLE, " 12\n", "12"),
        (AnswerFormat.BOXED, r"so \boxed{ 12 }.", "12"),
        (AnswerFormat.BOXED, r"\boxed{11}, no, \boxed{12}", "12"),
        (AnswerFormat.BOXED, r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (AnswerFormat.BOXED, r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (AnswerFormat.BOXED, r"\boxed{\boxed{12}}", "12"),
        (AnswerFormat.BOXED, r"\boxed {12}", "12"),
        (AnswerFormat.BOXED, r"\boxed{12", None),
        (AnswerFormat.BOXED, "12", None),
        (AnswerFormat.TAG, "<answer>11</answer> or <answer> 12 </answer>!", "12"),
        (AnswerFormat.TAG, "<answer>11<answer>12</answer>", "12"),
        (AnswerFormat.TAG, "<answer>1\n2</answer>", "1\n2"),
        (AnswerFormat.TAG, "<answer>12", None),
        (AnswerFormat.TAG, "12</answer>", None),
        (AnswerFormat.TAG, "12", None),
        (AnswerFormat.NUMBER, "4 - 1 is 3, so the answer is 12.", "12"),
        (AnswerFormat.NUMBER, "**12**", "12"),
        (AnswerFormat.NUMBER, "5 - 9 = -4", "-4"),
        (AnswerFormat.NUMBER, "It is 13-12", "12"),
        (AnswerFormat.NUMBER, "$1,234.50 in all", "1234.50"),
        (AnswerFormat.NUMBER, "1, 2,3", "3"),
        (AnswerFormat.NUMBER, "7 apples in 2nd place", "7"),
        (AnswerFormat.NUMBER, "12 of x2", "12"),
        (AnswerFormat.NUMBER, "twelve", None),
    ],
)
def test_the_last_answer_is_cut_out(answer_format: AnswerFormat, response: str, answer: str | None):
    assert extract_answer(response, answer_format) == answer


@pytest.mark.parametrize(
    ("answer_format", "named"),
    [
        (AnswerFormat.BOXED, r"\boxed{}"),
        (AnswerFormat.TAG, "</answer>"),
        (AnswerFormat.NUMBER, "the number"),
    ],
)
def test_the_request_names_the_format(answer_format: AnswerFormat, named: str):
    assert named in format_instruction(answer_format)
