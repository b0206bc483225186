import json
from pathlib import Path
from typing import Any

import pytest

from steadyrl.base import extras
from steadyrl.base.errors import UserError
from steadyrl.environments.hotpot_question import Question
from steadyrl.environments.hotpot_questions import (
    FileQuestions,
    HubQuestions,
    QuestionSet,
    file_rows,
)
from steadyrl.environments.protocol import Split
from steadyrl.environments.retrieval import Passage
from steadyrl.environments.splits import split_of
from steadyrl.lab.worlds.synthetic_questions import SyntheticQuestions


def official(number: int, question: str | None = None) -> dict[str, Any]:
    """A question as the official files have it."""
    return {
        "_id": f"id{number}",
        "question": question or f"Which river flows through town {number}?",
        "answer": f"River {number}",
        "type": "bridge",
        "level": "hard",
        "supporting_facts": [[f"Town {number}", 0], ["Rivers", 1], [f"Town {number}", 1]],
        "context": [
            ["Rivers", ["Rivers flow.", " They are wet."]],
            [f"Town {number}", [f"It lies at River {number}."]],
        ],
    }


def as_on_the_hub(row: dict[str, Any]) -> dict[str, Any]:
    """The same question as rows of the Hub's data set have it."""
    facts, context = row["supporting_facts"], row["context"]
    return {
        "id": row["_id"],
        **{field: row[field] for field in ("question", "answer", "type", "level")},
        "supporting_facts": {"title": [t for t, _ in facts], "sent_id": [s for _, s in facts]},
        "context": {"title": [t for t, _ in context], "sentences": [s for _, s in context]},
    }


def write(path: Path, rows: object) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def asked(questions: QuestionSet) -> dict[Split, list[str]]:
    return {split: [q.id for q in questions.questions[split]] for split in Split}


def test_a_row_is_a_question_with_its_titles_and_paragraphs(tmp_path: Path):
    path = write(tmp_path / "train.json", [official(1), official(2)])
    loaded = FileQuestions(train=path).load()
    first = Question(
        id="id1",
        question="Which river flows through town 1?",
        answer="River 1",
        titles=("Town 1", "Rivers"),
    )
    assert [first] == [q for split in Split for q in loaded.questions[split] if q.id == "id1"]
    assert loaded.passages == [
        Passage(title="Rivers", text="Rivers flow. They are wet."),
        Passage(title="Town 1", text="It lies at River 1."),
        Passage(title="Town 2", text="It lies at River 2."),
    ]


def test_one_file_is_split_by_the_text_of_its_questions(tmp_path: Path):
    rows = [official(number) for number in range(200)]
    loaded = FileQuestions(train=write(tmp_path / "all.json", rows)).load()
    for split, questions in loaded.questions.items():
        assert questions
        for question in questions:
            assert split_of(question.question.lower().rstrip("?")) == split
    assert sum(map(len, loaded.questions.values())) == 200
    reordered = FileQuestions(train=write(tmp_path / "back.json", rows[::-1])).load()
    assert {s: set(ids) for s, ids in asked(reordered).items()} == {
        s: set(ids) for s, ids in asked(loaded).items()
    }


def test_the_test_file_is_the_test_split_and_training_gives_up_what_is_in_it(tmp_path: Path):
    train = [official(number) for number in range(200)]
    train.append(official(200, "WHICH river flows through the town 900"))  # as in the test file
    train.append(official(201, train[7]["question"]))  # as in the train file
    test = [official(number) for number in range(900, 930)]
    loaded = FileQuestions(
        train=write(tmp_path / "train.json", train), test=write(tmp_path / "dev.json", test)
    ).load()
    ids = asked(loaded)
    assert ids[Split.TEST] == [row["_id"] for row in test]
    assert sorted(ids[Split.TRAIN] + ids[Split.VALIDATION]) == sorted(
        row["_id"] for row in train if row["_id"] != "id200"
    )
    assert 0.04 * 200 < len(ids[Split.VALIDATION]) < 0.16 * 200
    home = next(split for split in Split if "id7" in ids[split])
    assert "id201" in ids[home]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set in the Hub's layout, in a folder: Parquet files under two subsets."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "hotpot_qa"
    subset = folder / "distractor"
    subset.mkdir(parents=True)
    for split, numbers in (("train", range(100)), ("validation", range(100, 120))):
        rows = [as_on_the_hub(official(number)) for number in numbers]
        datasets.Dataset.from_list(rows).to_parquet(subset / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: distractor\n  data_files:\n"
        "  - split: train\n    path: distractor/train-*\n"
        "  - split: validation\n    path: distractor/validation-*\n---\n"
    )
    return folder


def test_the_hub_s_data_set_is_the_official_files(hub: Path, tmp_path: Path):
    train = write(tmp_path / "train.json", [official(number) for number in range(100)])
    test = write(tmp_path / "dev.json", [official(number) for number in range(100, 120)])
    from_hub = HubQuestions(dataset=str(hub)).load()
    assert from_hub == FileQuestions(train=train, test=test).load()


def test_a_data_set_that_cannot_be_loaded_is_refused_with_a_remedy(hub: Path):
    for settings in (HubQuestions(dataset=str(hub), subset="x"), HubQuestions(dataset="no/such")):
        with pytest.raises(UserError, match=r"Cannot load the split .* use questions.name='file'"):
            settings.load()


def test_the_missing_package_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"'datasets' is not installed. .*'steadyrl\[qa\]'"):
        HubQuestions().load()


def test_made_up_questions_are_in_the_official_format():
    loaded = SyntheticQuestions(people=100).load()
    assert len({q.id for questions in loaded.questions.values() for q in questions}) == sum(
        map(len, loaded.questions.values())
    )
    assert len(loaded.passages) == 100
    titles = {passage.title for passage in loaded.passages}
    assert all(set(q.titles) <= titles for q in loaded.questions[Split.TEST])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"answer": None},
            r"entry 1 of .*'answer' must be a string, got None; .*\['_id', 'answer'",
        ),
        ({"question": " "}, r"entry 1 of .*'question' must be a string"),
        ({"_id": 5}, r"entry 1 of .*'_id' must be a string, got 5"),
        ({"context": None}, r"'context' must be a list of \[title, sentences\], got None"),
        ({"context": [["Rome"]]}, r"'context' must be .*, got \[\['Rome'\]\]"),
        ({"context": {"title": ["Rome"], "sentences": []}}, r"'context' must be a list of"),
        ({"supporting_facts": 3}, r"'supporting_facts' must be a list of \[title, sent_id\]"),
    ],
)
def test_a_malformed_row_is_refused_by_place_and_field(
    tmp_path: Path, change: dict[str, Any], message: str
):
    path = write(tmp_path / "train.json", [official(1) | change])
    with pytest.raises(UserError, match=message):
        FileQuestions(train=path).load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", r"Cannot read the questions in .*train.json \(Expecting"),
        ("\udcff", r"Cannot read the questions in .*train.json \("),
        ("[]", r"There are no questions in .*train.json. Give a JSON list"),
        ('{"data": []}', r"There are no questions in .*train.json"),
        ('["Where?"]', r"entry 1 of .*train.json is not an object, got 'Where\?'"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "train.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=message):
        FileQuestions(train=path).load()


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"Cannot read the questions in .*absent.json"):
        list(file_rows(tmp_path / "absent.json"))
