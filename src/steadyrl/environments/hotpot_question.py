"""Records of questions, and base class of question sources."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from steadyrl.base.variants import Variant
from steadyrl.environments.protocol import Split
from steadyrl.environments.retrieval import Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that is answered by two paragraphs.

    Example:
        Question(id="7", question="Where does the river of Rome rise?", answer="Italy",
                 titles=("Rome", "Tiber"))
    """

    id: str
    question: str
    answer: str

    titles: tuple[str, ...]
    """Titles of the supporting paragraphs, in the order of the facts."""

    hint: str = ""
    """Text added to the feedback."""

    rulebook: str = ""
    """Hidden rules of all questions, if there are any."""


@runtime_checkable
class Questions(Protocol):
    """Questions of one split: a list, or a generator of questions by number."""

    def __len__(self) -> int:
        """Number of questions."""
        ...

    def __getitem__(self, number: int, /) -> Question:
        """Question `number`, always the same."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet:
    """Questions of each split, and the distinct paragraphs of all."""

    questions: Mapping[Split, Questions]
    passages: list[Passage]


class QuestionSettings(Variant):
    """Settings of a source of questions."""

    @abstractmethod
    def load(self) -> QuestionSet:
        """Loads the questions. No question is in two splits.

        Raises:
            UserError: the questions cannot be loaded, or a row is malformed; names the row and
                field.
        """
