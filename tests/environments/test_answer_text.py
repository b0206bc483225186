import pytest

from steadyrl.environments.answer_text import plain_text, unwrap


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Paris", "Paris"),
        (r"\text{Paris}", "Paris"),
        (r"\mathrm{Paris}", "Paris"),
        (r"\mbox{ Paris }", "Paris"),
        (r"\textbf{\textit{Paris}}", "Paris"),
        (r"{\rm Paris}", "Paris"),
        (r"$\text{Paris}$", "Paris"),
        (r"$$Paris$$", "Paris"),
        (r"\text{New}\,\text{York}", "New York"),
        (r"\text{New York}\!", "New York"),
        (r"New~York\ City", "New~York City".replace("~", " ")),
        (r"\text{Paris}, \textbf{France}", "Paris, France"),
        (r"\text{AT\&T}", "AT&T"),
        (r"\text{50\%}", "50%"),
        (r"Beyonc\'{e}", "Beyoncé"),
        (r"M\"uller", "Müller"),
        (r"\text{open", r"\text{open"),
        ("~", "~"),
        ("$", "$"),
        ("", ""),
    ],
)
def test_latex_is_read_as_the_text_it_sets(text: str, plain: str):
    assert plain_text(text) == plain


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        (r"\text{No}", "No"),
        (r" \mathrm{\text{No}} ", "No"),
        (r"\text{a} + \text{b}", r"\text{a} + \text{b}"),
        (r'["say \"hi\""]', r'["say \"hi\""]'),
        ("12", "12"),
    ],
)
def test_only_a_command_around_the_whole_text_is_unwrapped(text: str, inner: str):
    assert unwrap(text) == inner


@pytest.mark.parametrize(
    "text", [r"\text{" * 20_000, r"\text{" * 20_000 + "}" * 20_000, "{" * 99_999]
)
def test_endless_nesting_is_read_in_linear_time(text: str):
    assert plain_text(text) in ("", text)
    assert unwrap(text)
