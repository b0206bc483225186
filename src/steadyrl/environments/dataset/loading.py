"""Assignment of dataset rows to splits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from unicodedata import normalize

from steadyrl.base.errors import UserError
from steadyrl.base.text import nearest_or_all
from steadyrl.environments.dataset.examples import Example, InvalidRowError, RowReader
from steadyrl.environments.dataset.tables import Table
from steadyrl.environments.protocol import Split
from steadyrl.environments.splits import split_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLocation:
    """Location of an example.

    Example:
        RowLocation(table=table, row=6, id="train/7")
    """

    table: Table
    row: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitTables:
    """Tables of one split.

    Example:
        SplitTables(name="train", tables=[read_table(Path("train.csv"))])
    """

    name: str
    tables: Sequence[Table]


@dataclass(slots=True, kw_only=True)
class SplitAssigner:
    """Assigns rows to splits that share no prompts.

    Args:
        reader: Converts rows to examples.
        check: Raises InvalidRowError for examples that a reward cannot judge.
        held_out: Share of the training rows for each split without rows of its own.
        skip: Whether to drop invalid rows instead of rejecting them.
    """

    reader: RowReader
    check: Callable[[Example], None]
    held_out: float
    skip: bool
    _read: int = 0
    _invalid: list[str] = field(default_factory=list)
    _repeated: int = 0

    def sort(self, given: Mapping[Split, SplitTables]) -> dict[Split, list[RowLocation]]:
        """Locations of the examples in each split.

        A row whose prompt is already in the test or validation split is dropped. A split without
        rows receives training rows selected by the text of their prompts.

        Raises:
            UserError: a column is missing, a row is invalid, or there are too few rows.
        """
        locations: dict[Split, list[RowLocation]] = {split: [] for split in Split}
        owners: dict[bytes, Split] = {}
        train: list[tuple[bytes, RowLocation]] = []
        drawn: dict[bytes, Split] = {}
        for split in (Split.TEST, Split.VALIDATION, Split.TRAIN):
            for location, example in self._examples(given[split]) if split in given else ():
                key = _key(example.text)
                if owners.setdefault(key, split) is not split:
                    self._repeated += 1
                elif split is Split.TRAIN:
                    train.append((key, location))
                    drawn.setdefault(key, split_of(example.text, self.held_out))
                else:
                    locations[split].append(location)
        self._cut(drawn, [split for split in Split if split not in given])
        for key, location in train:
            locations[drawn[key]].append(location)
        return locations

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on dropped rows."""
        odd = f"{len(self._invalid)} of {self._read} rows of the dataset were dropped. The first: "
        repeated = (
            f"{self._repeated} rows of the dataset were dropped because their prompts are also in "
            "a held-out split."
        )
        return (
            *([f"{odd}{self._invalid[0]}."] if self._invalid else ()),
            *([repeated] if self._repeated else ()),
        )

    def _cut(self, drawn: dict[bytes, Split], missing: Sequence[Split]) -> None:
        """Restricts `drawn` to the `missing` splits, each with at least one text, and training."""
        if len(drawn) <= len(missing):
            raise UserError(
                f"The dataset has {len(drawn)} distinct training prompts, too few for "
                f"{' and '.join([*missing, 'train'])}. Add rows."
            )
        for key, split in drawn.items():
            if split not in missing:
                drawn[key] = Split.TRAIN
        for split in missing:
            if split not in drawn.values():
                drawn[min(key for key, owner in drawn.items() if owner is Split.TRAIN)] = split

    def _examples(self, split: SplitTables) -> Iterator[tuple[RowLocation, Example]]:
        number = 0
        for table in split.tables:
            self._check_columns(table)
            for row, values in enumerate(table.rows):
                number += 1
                self._read += 1
                location = RowLocation(table=table, row=row, id=f"{split.name}/{number}")
                try:
                    example = self.reader.example(values, location.id)
                    self.check(example)
                except InvalidRowError as error:
                    self._note_invalid(f"{table.where(row)}: {error}")
                else:
                    yield location, example

    def _check_columns(self, table: Table) -> None:
        known = table.columns()
        for name in self.reader.required:
            if name not in known and name.partition(".")[0] not in known:
                choice = nearest_or_all(name, known, "It has")
                raise UserError(
                    f"{table.source} has no column {name!r}. {choice} Map the columns, as in "
                    "environment.columns {prompt: question, answer: solution}."
                )

    def _note_invalid(self, reason: str) -> None:
        if not self.skip:
            raise UserError(
                f"{reason}. Correct the row, or set environment.invalid_rows to 'skip' to drop "
                "all invalid rows."
            )
        self._invalid.append(reason)


def _key(text: str) -> bytes:
    """Key that ignores case and whitespace."""
    folded = " ".join(normalize("NFC", text).casefold().split())
    return blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()
