from steadyrl.analysis.metric_texts import GROUPS, METRIC_TEXTS, text_for


def test_each_metric_has_a_meaning_a_definition_a_unit_and_what_moves_it() -> None:
    for name, text in METRIC_TEXTS.items():
        assert all((text.meaning, text.definition, text.unit, text.moves_with)), name


def test_limits_are_filled_in() -> None:
    assert "Healthy: 0.5 and above" in METRIC_TEXTS["ess"].meaning
    assert not any("{" in text.meaning for text in METRIC_TEXTS.values())


def test_titles_tell_metrics_apart() -> None:
    titles = [text.title for text in METRIC_TEXTS.values()]

    assert len(set(titles)) == len(titles)


def test_a_metric_without_a_text_is_shown_under_its_own_name() -> None:
    text = text_for("of_your_own")

    assert (text.title, text.group) == ("of_your_own", GROUPS["other"])
    assert "not among the metrics" in text.meaning


def test_a_part_of_a_reward_has_the_text_of_its_kind_and_its_own_title() -> None:
    text = text_for("reward/math")

    assert (text.title, text.group) == ("Part of the training reward: math", GROUPS["outcome"])
    assert text.meaning == METRIC_TEXTS["reward/NAME"].meaning
    assert text_for("ess/math").group == GROUPS["other"]
