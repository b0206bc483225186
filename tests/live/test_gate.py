"""Which policies the gate lets through, and drift sets that cannot be read."""

from pathlib import Path

import pytest

from steadyrl.base.errors import UserError
from steadyrl.live.gate import is_promoted, read_drift_texts
from steadyrl.live.settings import GateSettings
from steadyrl.records.message import Message


@pytest.mark.parametrize(
    ("trained", "promotes"),
    [
        ({"score": 0.5, "loglikelihood": -1.0}, True),
        ({"score": 0.375, "loglikelihood": -1.5}, True),
        ({"score": 0.25, "loglikelihood": -1.0}, False),  # below the best, not below the last
        ({"score": 0.75, "loglikelihood": -1.75}, False),
        ({"score": 0.5}, True),
        ({}, False),
    ],
)
def test_scores_are_compared_with_the_best_and_drift_with_the_first(
    trained: dict[str, float], promotes: bool
) -> None:
    before = [
        {"score": 0.25, "loglikelihood": -1.0},
        {"score": 0.5, "loglikelihood": -1.25},
        {"score": 0.375, "loglikelihood": -1.5},
    ]
    limits = GateSettings(margin=0.125, max_drift=0.5)
    assert is_promoted(limits, trained, before) is promotes


def test_a_drift_set_has_texts_or_conversations(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(
        '{"prompt": "1+1=", "answer": "2"}\n'
        '{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], '
        '"answer": "a"}\n'
    )
    asked, long = read_drift_texts(file)

    assert asked == ((Message(role="user", content="1+1="),), "2")
    assert [message.role for message in long[0]] == ["system", "user"]


@pytest.mark.parametrize("line", ['{"prompt": "a"}', '{"prompt": [], "answer": "a"}', ""])
def test_a_drift_set_that_cannot_be_read_is_one_sentence(tmp_path: Path, line: str) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(f"{line}\n" if line else "")
    with pytest.raises(UserError, match=r"not a drift text|has no texts"):
        read_drift_texts(file)
    with pytest.raises(UserError, match="there is no file"):
        read_drift_texts(tmp_path / "none.jsonl")
