"""Where data sets are: files, folders, saved ones, and local copies of repositories."""

from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from steadyrl.base.errors import UserError
from steadyrl.environments.dataset.sources import Splits, find_split, open_splits


def sizes(splits: Splits) -> dict[str, int]:
    return {name: sum(len(table.rows) for table in read()) for name, read in sorted(splits.items())}


def with_rows(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("q,a\n" + "".join(f"{path.stem} {n},{n}\n" for n in range(count)))


def test_a_file_is_one_split(tmp_path: Path) -> None:
    with_rows(tmp_path / "test.csv", 3)
    assert sizes(open_splits(str(tmp_path / "test.csv"), None, None)) == {"train": 3}


def test_files_of_a_folder_are_sorted_by_their_names(tmp_path: Path) -> None:
    for name, count in (
        ("train-00000-of-00002.csv", 1),
        ("train-00001-of-00002.csv", 2),
        ("my_dev.csv", 3),
        ("test/part.csv", 4),
        ("contest.csv", 5),  # no word of its own
        (".hidden/train.csv", 6),
    ):
        with_rows(tmp_path / name, count)
    (tmp_path / "notes.txt").write_text("x")
    splits = open_splits(str(tmp_path), None, None)
    assert sizes(splits) == {"test": 4, "train": 8, "validation": 3}


def test_what_datasets_has_saved_is_read(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"q": ["1", "2"], "a": [1, 2]})
    rows.save_to_disk(tmp_path / "one")
    DatasetDict(fit=rows, test=rows.select([0])).save_to_disk(tmp_path / "two")
    assert sizes(open_splits(str(tmp_path / "one"), None, None)) == {"train": 2}
    splits = open_splits(str(tmp_path / "two"), None, None)
    assert sizes(splits) == {"fit": 2, "test": 1}
    (table,) = splits["test"]()
    assert (table.rows[0], table.columns()) == ({"q": "1", "a": 1}, ["q", "a"])
    assert table.where(0) == f"row 1 of the split 'test' of {tmp_path / 'two'}"


README = """---
configs:
- config_name: plain
  data_files:
  - split: train
    path: plain/*.csv
- config_name: hard
  data_files:
  - split: train
    path: hard/a.csv
  - split: test
    path: hard/b.csv
---
"""


def test_a_copy_of_a_repository_is_read_as_its_card_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "repository"
    for name, count in (("plain/x.csv", 1), ("hard/a.csv", 2), ("hard/b.csv", 3)):
        with_rows(folder / name, count)
    (folder / "README.md").write_text(README)
    assert sizes(open_splits(str(folder), "hard", None)) == {"test": 3, "train": 2}
    assert sizes(open_splits(str(folder), "plain", None)) == {"train": 1}
    with pytest.raises(UserError, match=r"Cannot find the dataset .*subset 'soft', failed|soft"):
        open_splits(str(folder), "soft", None)


@pytest.mark.parametrize("path", ["missing.csv", "./missing", "a/b/c", "C:\\data"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(path: str) -> None:
    with pytest.raises(UserError, match=r"There is no file or folder .*environment\.path"):
        open_splits(path, None, None)


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no data file in"):
        open_splits(str(tmp_path), None, None)


def splits_of(*names: str) -> Splits:
    return dict.fromkeys(names, list)


def test_splits_are_found_by_their_usual_names() -> None:
    splits = splits_of("train", "dev", "test", "extra")
    assert find_split(splits, "train", None, "d") == "train"
    assert find_split(splits, "validation", None, "d") == "dev"
    assert find_split(splits, "test", "extra", "d") == "extra"
    assert find_split(splits_of("train"), "test", None, "d") is None


def test_the_only_split_is_for_training() -> None:
    assert find_split(splits_of("all"), "train", None, "d") == "all"
    assert find_split(splits_of("test"), "train", None, "d") == "test"


def test_a_split_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"d has no split 'tests'\. Did you mean 'test'\?"):
        find_split(splits_of("train", "test"), "test", "tests", "d")
    with pytest.raises(UserError, match=r"d has no split 'train'\. It has: a, b"):
        find_split(splits_of("a", "b"), "train", None, "d")
