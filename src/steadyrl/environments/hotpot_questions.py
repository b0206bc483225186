"""Questions and paragraphs of HotpotQA, from the Hub or from the official files."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from steadyrl.base.errors import UserError
from steadyrl.base.extras import require_extra
from steadyrl.base.variants import Variants
from steadyrl.environments.hotpot_question import Question, QuestionSet, QuestionSettings
from steadyrl.environments.protocol import Split
from steadyrl.environments.question_answering import normalize_answer
from steadyrl.environments.retrieval import Passage
from steadyrl.environments.splits import split_of

Row = tuple[str, Any]
"""Location of a row for error messages, and its content."""


class HubQuestions(QuestionSettings):
    """A dataset on the Hugging Face Hub.

    Nine tenths of its train split are used for training and the rest for validation; its validation
    split is used for testing.
    """

    name: Literal["hub"] = "hub"

    dataset: str = "hotpotqa/hotpot_qa"
    """Name on the Hub, or folder of data files."""

    subset: str | None = "distractor"
    """Dataset configuration; None: the default one."""

    revision: str | None = None
    """Commit, tag or branch; None: the latest."""

    def load(self) -> QuestionSet:
        """Loads the questions of its splits."""
        return _with_test_set(hub_rows(self, "train"), hub_rows(self, "validation"))


class FileQuestions(QuestionSettings):
    """Files in the official JSON format, such as hotpot_train_v1.1.json."""

    name: Literal["file"] = "file"

    train: Path
    """Questions for training. A tenth of them is used for validation."""

    test: Path | None = None
    """Questions for testing, such as hotpot_dev_distractor_v1.json. None: another tenth of
    `train`."""

    def load(self) -> QuestionSet:
        """Loads the questions from the files."""
        train = file_rows(self.train)
        if self.test is None:
            return question_set([(train, split_of)])
        return _with_test_set(train, file_rows(self.test))


AnyQuestions = Annotated[
    QuestionSettings, Variants(QuestionSettings, "steadyrl.questions", HubQuestions, FileQuestions)
]
"""Settings of any source of questions."""


def _with_test_set(train: Iterable[Row], test: Iterable[Row]) -> QuestionSet:
    return question_set([(test, always(Split.TEST)), (train, _train_or_validation)])


def always(split: Split) -> Callable[[str], Split]:
    """A function that assigns every text to `split`."""
    return lambda _: split


def _train_or_validation(text: str) -> Split:
    """Validation if the text belongs to it, else train."""
    return Split.VALIDATION if split_of(text) is Split.VALIDATION else Split.TRAIN


def question_set(parts: Iterable[tuple[Iterable[Row], Callable[[str], Split]]]) -> QuestionSet:
    """The questions of all parts, assigned to splits by each part's function of the text.

    A question that an earlier part assigned to another split is dropped. Texts are compared without
    case, punctuation and articles.
    """
    questions: dict[Split, list[Question]] = {split: [] for split in Split}
    owners: dict[str, Split] = {}
    passages: dict[Passage, None] = {}
    for rows, owner in parts:
        for where, row in rows:
            question = _question(row, where)
            key = normalize_answer(question.question)
            split = owner(key)
            if owners.setdefault(key, split) is split:
                questions[split].append(question)
            passages.update(dict.fromkeys(_passages(row, where)))
    return QuestionSet(questions=questions, passages=list(passages))


def file_rows(path: Path) -> Iterator[Row]:
    """Rows of a file in the official format.

    Raises:
        UserError: the file is missing, not JSON, or not a list.
    """
    try:
        rows = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f"Cannot read the questions in {path} ({error}). "
            "Give the path of a JSON file in HotpotQA's format."
        ) from error
    if not isinstance(rows, list) or not rows:
        raise UserError(
            f"There are no questions in {path}. Give a JSON list of objects in HotpotQA's format."
        )
    for number, row in enumerate(rows, start=1):
        yield f"entry {number} of {path}", row


def hub_rows(settings: HubQuestions, split: str) -> Iterator[Row]:
    """Rows of a split of a dataset on the Hub.

    Raises:
        UserError: the split cannot be loaded, or the package `datasets` is not installed.
    """
    require_extra("datasets", "qa")
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        rows = load_dataset(
            settings.dataset, settings.subset, split=split, revision=settings.revision
        )
    except (DatasetsError, OSError, ValueError) as error:
        raise UserError(
            f"Cannot load the split {split!r} of the dataset {settings.dataset!r}, subset "
            f"{settings.subset!r} ({error}). Check the name and the network, or download the "
            "official files and use questions.name='file'."
        ) from error
    for number, row in enumerate(rows, start=1):
        yield f"row {number} of {split} in {settings.dataset}", row


def _question(row: Any, where: str) -> Question:
    if not isinstance(row, dict):
        raise UserError(f"{where} is not an object, got {row!r}. Write {{...}} with the fields.")
    facts = _pairs(row, "supporting_facts", "sent_id", where)
    return Question(
        id=_text(row, "_id" if "_id" in row else "id", where),
        question=_text(row, "question", where),
        answer=_text(row, "answer", where),
        titles=tuple(dict.fromkeys(str(title) for title, _ in facts)),
    )


def _passages(row: dict[str, Any], where: str) -> list[Passage]:
    paragraphs = _pairs(row, "context", "sentences", where)
    return [
        Passage(title=str(title), text=" ".join(str(sentence).strip() for sentence in sentences))
        for title, sentences in paragraphs
    ]


def _pairs(row: dict[str, Any], field: str, second: str, where: str) -> list[tuple[Any, Any]]:
    """A list of [title, second], or two lists under these names as on the Hub."""
    value = row.get(field)
    try:
        if isinstance(value, dict):
            return list(zip(value["title"], value[second], strict=True))
        return [(title, other) for title, other in value]  # type: ignore[union-attr]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{where}: the field {field!r} must be a list of [title, {second}], got "
            f"{value!r:.200}. Correct that row."
        ) from error


def _text(row: dict[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise UserError(
            f"{where}: the field {field!r} must be a string, got {value!r}; the row has the "
            f"fields {sorted(row)}. Correct that row."
        )
    return value
