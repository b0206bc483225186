"""One question of HotpotQA's kind."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question whose answer is in two paragraphs.

    Example:
        Question(id="7", question="Where does the river of Rome rise?", answer="Italy",
                 titles=("Rome", "Tiber"))
    """

    id: str
    question: str
    answer: str

    titles: tuple[str, ...]
    """Titles of the paragraphs that support the answer, in the order of the facts."""

    hint: str = ""
    """What feedback tells of the question besides right or wrong."""

    rulebook: str = ""
    """What there is to find out about all questions, where something is hidden."""
