import sys
import threading

import pytest

from steadyrl.base.errors import UserError
from steadyrl.base.isolation import Isolated, IsolationError
from steadyrl.environments.math_answers import answers_agree, isolated_agreement


@pytest.fixture(scope="module")
def agree() -> Isolated[[str, str], bool]:
    return isolated_agreement(timeout=20.0)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1/2", "0.5"),
        ("1/2", r"\frac{1}{2}"),
        (r"\dfrac12", "1/2"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        (r"2\sqrt2", "2*sqrt(2)"),
        ("[0,1)", r"\left[0, 1\right)"),
        ("1 < x < 2", "(1,2)"),
        ("50%", r"\frac{1}{2}"),
        (r"50\%", "50"),
        (r"5 \text{ cm}", "5"),
        ("x+1", "1+x"),
        ("(x+1)^2", "x^2+2x+1"),
        (r"\{1,2\}", "2, 1"),
        ("x=5", "5"),
        ("1000", "1,000"),
        (r"\$18", "18"),
        (r"4\frac{2}{3}", "14/3"),
        (r"90^\circ", "90"),
        ("18", "$18$"),
        ("18", r"\boxed{18}"),
        (r"\text{north}", r"\text{north}"),
        ("?!", " ?! "),
    ],
)
def test_equal_answers_agree(agree: Isolated[[str, str], bool], gold: str, answer: str):
    assert agree(gold, answer) is True


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("12", "13"),
        ("12", "112"),
        ("1/3", "0.33"),
        ("[0,1)", "[0,1]"),
        ("(1,2)", "(2,1)"),
        (r"\pi", "3.14"),
        ("0.5", "50"),
        (r"\sqrt{2}", "2"),
        (r"\text{yes}", r"\text{no}"),
        ("3", ""),
        ("3", r"\frac{"),
        ("3", "}"),
        ("", ""),
    ],
)
def test_different_answers_do_not(agree: Isolated[[str, str], bool], gold: str, answer: str):
    assert agree(gold, answer) is False


@pytest.mark.parametrize(
    "guesses",
    ["1, 2, 3", "1 or 3", "$1$ $2$ $3$", r"\boxed{1} \boxed{3}", r"1} \boxed{3", "1; 3", "1\n3"],
)
def test_several_guesses_do_not_agree_with_one_value(
    agree: Isolated[[str, str], bool], guesses: str
):
    assert agree("3", guesses) is False


def test_answers_agree_from_a_thread():
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(answers_agree("1/2", "0.5")))
    thread.start()
    thread.join()
    assert verdicts == [True]


def test_an_answer_that_never_ends_does_not_agree_and_does_not_hang():
    agree = isolated_agreement(timeout=1.0)
    assert agree("5", "2+3") is True
    with pytest.raises(IsolationError, match="took longer than 1 s"):
        agree("5", "10^{10^{10}}")
    assert agree("5", "2+3") is True


def test_a_missing_math_verify_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(UserError, match=r"math_verify.*pip install 'steadyrl\[math\]'"):
        isolated_agreement(timeout=1.0)
