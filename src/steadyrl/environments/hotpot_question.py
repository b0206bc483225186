"""Questions of HotpotQA's kind, and the settings that say where they come from."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from steadyrl.base.variants import Variant
from steadyrl.environments.protocol import Split
from steadyrl.environments.retrieval import Passage


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


@runtime_checkable
class Questions(Protocol):
    """The questions of one split: a list, or what draws each when it is asked for."""

    def __len__(self) -> int:
        """Their number."""
        ...

    def __getitem__(self, number: int, /) -> Question:
        """Question `number`: always the same one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet:
    """The questions of each split, and the paragraphs of all, each once."""

    questions: Mapping[Split, Questions]
    passages: list[Passage]


class QuestionSettings(Variant):
    """Settings that say where questions come from."""

    @abstractmethod
    def load(self) -> QuestionSet:
        """The questions. None is in two splits.

        Raises:
            UserError: they cannot be had, or a row has another format; names the row and field.
        """
