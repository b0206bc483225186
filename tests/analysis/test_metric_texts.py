import re
from pathlib import Path

from steadyrl.analysis.metric_texts import METRIC_TEXTS, MetricGroup, text_for

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_document_and_report_name_the_same_metrics_in_the_same_order() -> None:
    headings = re.findall(
        r"^### `([\w/]+)`: (.+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert headings == [(name, text.title) for name, text in METRIC_TEXTS.items()]


def test_document_and_report_sort_metrics_under_the_same_questions() -> None:
    documented, heading = {}, ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("### "):
            documented[line.split("`")[1]] = heading

    assert documented == {name: text.group.value for name, text in METRIC_TEXTS.items()}


def test_each_metric_is_documented_with_definition_unit_and_what_moves_it() -> None:
    sections = DOCUMENT.read_text(encoding="utf-8").split("\n### ")[1:]

    for section in sections:
        found = re.findall(r"^- (Definition|Unit|Moves with): \S", section, re.MULTILINE)
        assert found == ["Definition", "Unit", "Moves with"], section.splitlines()[0]


def test_titles_tell_metrics_apart() -> None:
    titles = [text.title for text in METRIC_TEXTS.values()]

    assert len(set(titles)) == len(titles)


def test_a_metric_without_a_text_is_shown_under_its_own_name() -> None:
    text = text_for("of_your_own")

    assert (text.title, text.group) == ("of_your_own", MetricGroup.OTHER)
    assert "not among the metrics" in text.meaning


def test_a_part_of_a_reward_has_the_text_of_its_kind_and_its_own_title() -> None:
    text = text_for("reward/math")

    assert (text.title, text.group) == ("Part of the training reward: math", MetricGroup.OUTCOME)
    assert text.meaning == METRIC_TEXTS["reward/NAME"].meaning
    assert text_for("ess/math").group == MetricGroup.OTHER
