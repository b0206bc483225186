"""What counts as the right answer, without the worker process."""

import logging

import pytest
from answer_cases import cases

from steadyrl.environments.math_agreement import agree

RIGHT = [
    ("0.00001", "1e-5"),
    ("0.00001", "10^{-5}"),
    ("100000", "1E5"),
    ("1200", r"1.2\times 10^{3}"),
    ("1200", "1.2 \u00d7 10\u00b3"),
    ("45", "45."),
    ("45", r"\mathrm{45}."),
    ("45", r"\text{45}"),
    ("1234", "1{,}234"),
    ("1234", r"1\,234"),
    ("1234567", "1\u2009234\u2009567"),
    ("1234", "1\u202f234"),
    ("1,234", "1234"),
    ("3", "x = 3"),
    ("3", "= 3"),
    ("3", "3 = x"),
    ("45", "21+24=45"),
    ("> 3", "x > 3"),
    ("1.5", r"\approx 1.5"),
    ("0.3", "0.30000000000000004"),
    ("1/3", "0.333333"),
    (r"\pi", "3.14159265"),
    (r"\frac{\pi}{10^{20}}", "3.14159265e-20"),
    ("1 m", "100 cm"),
    ("1,2", r"\{2,1\}"),
    ("(1,2)", "1, 2"),
    ("FF_{16}", "FF"),
    ("12:30", "12:30 pm"),
    (r"\text{(B)}", "B"),
    ("45", "So 21 + 24 = 45 slices are left."),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ("5000000", r"5 \text{ million}"),
    ("7", r"\text{The answer is } 7"),
    ("50", "We find that the final answer is $50$."),
    (r"\ln 2", "ln(2)"),
    (r"\ln 2", "ln 2"),
    (r"\log_2 x", "log_2(x)"),
    (r"\cos^2 x", "cos(x)^2"),
    ("e^{-x}", "exp(-x)"),
    (r"\arctan 2", "atan(2)"),
    (r"2\sin x", "2sin(x)"),
    ("5 sec", "5 s"),
    (r"\text{tan}", "tan"),
    (r"\frac{1 \pm \sqrt{5}}{2}", r"\frac{1+\sqrt{5}}{2}, \frac{1-\sqrt{5}}{2}"),
    (r"\frac{1+\sqrt{5}}{2}, \frac{1-\sqrt{5}}{2}", r"x = \frac{1 \pm \sqrt{5}}{2}"),
    (r"x=\pm 2", r"x=2 \text{ or } x=-2"),
    (r"0, \pm 1", "-1, 0, 1"),
    (r"\{0, \pm 1\}", r"\{-1, 0, 1\}"),
    (r"(\pm 1, 2)", "(1, 2), (-1, 2)"),
    ("x=1, x=2", "x=2 or x=1"),
    ("x=1, y=2", "y=2 and x=1"),
    (r"0.1\overline{6}", "1/6"),
    (r"\frac{1}{7}", r"0.\overline{142857}"),
    (r"-\frac13", r"-0.\dot{3}"),
    (r"33.\bar{3}\%", "1/3"),
    ("1", r"0.\overline{9}"),
    (r"\emptyset", r"\varnothing"),
    (r"\emptyset", "\u2205"),
]
WRONG = [
    ("0.00001", r"e-5"),
    ("3", "> 3"),
    ("3", r"\neq 3"),
    ("3", "\u2264 3"),
    ("3", "3 < x"),
    ("3", r"\approx 3"),
    ("1e-9", "2e-9"),
    ("0.000000001", "0.000000002"),
    ("0.000000001", "0"),
    (r"\frac{\pi}{10^{20}}", r"\frac{2\pi}{10^{20}}"),
    ("(1e-9, 2)", "(2e-9, 2)"),
    ("12345678901234567890", "12345678901234567891"),
    ("1e20", "1.0000001e20"),
    ("1000000.5", "1000001"),
    ("3t", "3"),
    (r"\text{north}", "thorn"),
    ("5 m", "5 km"),
    ("12", "1 2"),
    ("3", "1 2"),
    ("3", "3:1"),
    ("5", "~5"),
    ("x", "X"),
    (r"\begin{pmatrix}1e-9\\2\end{pmatrix}", r"\begin{pmatrix}2e-9\\2\end{pmatrix}"),
    (r"\frac{\pi}{10^{20}}+x", r"\frac{2\pi}{10^{20}}+x"),
    ("5 cm", "5 cm^2"),
    (r"50\%", "0.5%"),
    ("10", "10_2"),
    ("1234", "(1,234)"),
    ("1234", "1, 234"),
    ("(1,234)", "1234"),
    ("(1,2)", "2, 1"),
    ("(1,2)", "[1,2]"),
    ("3", "3 = 4"),
    ("4", "3 = 4"),
    ("x=5", "y=5"),
    ("12:30", "4:10"),
    ("3", r"3 \text{ not sure}"),
    ("3", "I think it is 7 or maybe 3"),
    ("45", "There are at least 45 slices left"),
    ("45", "It is certainly not 45"),
    (r"\ln 2", "ln 3"),
    (r"\frac{1+\sqrt{5}}{2}", r"\frac{1 \pm \sqrt{5}}{2}"),
    (r"\frac{1 \pm \sqrt{5}}{2}", r"\frac{1+\sqrt{5}}{2}"),
    (r"\pm 2", "2"),
    ("-2", r"\pm 2"),
    (r"0, \pm 1", "0, 1"),
    ("x=1, x=2", "x=1 or x=3"),
    ("x=1, y=2", "y=1 and x=2"),
    ("2", "x=1 or x=2"),
    (r"0.\overline{3}", "0.3"),
    (r"0.\overline{3}", r"0.\overline{6}"),
    ("0", "\u2205"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_a_rewritten_answer_counts(gold: str, answer: str) -> None:
    assert agree(gold, answer) is True


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_a_changed_answer_does_not(gold: str, answer: str) -> None:
    assert agree(gold, answer) is False


@pytest.mark.parametrize(
    ("problem", "answer", "counts"),
    [
        ("How many slices are left?", "45 slices", True),
        ("How many slices are left?", "45 apples", False),
        ("How long is it in meters?", "45 m", True),
        ("How long is it in meters?", "45 km", False),
        ("How many meters are 0.045 km?", "45 km", False),
        ("How many square feet is it?", r"45 \text{ ft}^2", True),
        ("How many square feet is it?", "45 feet", False),
        ("What does it cost?", r"\$45", True),
        ("What does it weigh?", r"\$45", False),
        ("Find the angle.", r"45^\circ", True),
        ("What percent?", r"45\%", True),
        ("What is it?", r"45\%", False),
        ("What is 37 in base 8?", "45_8", True),
        ("What is it?", "45_8", False),
        ("", "45 km", True),
    ],
)
def test_the_problem_says_which_units_may_be_added(problem: str, answer: str, counts: bool) -> None:
    assert agree("45", answer, problem) is counts


@pytest.mark.parametrize(
    ("gold", "answer", "counts"),
    [
        ("45", "45", True),
        ("45", "45 slices", True),
        ("45", "21 + 24", False),
        ("45", "21 + 24 = 45", True),
        ("45", "Use 21 + 24 slices", False),
        ("45", "Use 21 + 24 slices to get the number of them", False),
        ("45", "90/2", False),
        ("1/2", "2/4", False),
        ("1/2", "0.5", True),
        ("1024", "2^{10}", False),
        ("2^{10}", "1024", True),
        ("120", "5!", False),
        ("4", r"\sqrt{16}", False),
        (r"2\sqrt{2}", r"\sqrt{8}", True),
        ("1+\\sqrt{3}", r"\sqrt{3}+1", True),
        ("2+\\sqrt{3}", r"1+1+\sqrt{3}", False),
        (r"\frac{\pi}{4}", r"\pi/4", True),
        ("x^2+2x+1", "(x+1)^2", True),
        ("2+3i", "3i+2", True),
        ("(45,3)", "(21+24, 3)", False),
        ("12", "(3)(4)", False),
        ("6", r"\gcd(12, 18)", False),
        ("1e-5", "10^{-5}", True),
    ],
)
def test_an_answer_may_have_to_be_worked_out(gold: str, answer: str, counts: bool) -> None:
    assert agree(gold, answer, require_simplified=True) is counts


def test_drawn_answers_are_judged_as_their_changes_say() -> None:
    """The sample of `python benchmarks/answer_mutations.py`."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    drawn = cases(rounds=1, seed=3)
    assert len(drawn) > 300
    assert not [
        case for case in drawn if agree(case.gold, case.answer, case.problem) != case.counts
    ]
