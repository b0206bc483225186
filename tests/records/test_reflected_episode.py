"""The story of an episode as a field of its rows."""

import json
from dataclasses import asdict

import pytest

from steadyrl.records.reflected_episode import ReflectedEpisode

STORY = ReflectedEpisode(
    number=12, reflects=True, recalled=(2, 0), internalized=True, remembered=0, failure="it broke"
)


def test_a_story_comes_back_from_its_field() -> None:
    field = json.loads(json.dumps(STORY.as_field()))

    assert ReflectedEpisode.from_field(field) == STORY
    assert field == {"version": 1, **asdict(STORY), "recalled": [2, 0]}


def test_what_is_not_known_is_left_out_and_what_is_missing_is_the_default() -> None:
    field = {"version": 1, "number": 3, "reflects": False, "later": "news"}

    assert ReflectedEpisode.from_field(field) == ReflectedEpisode(number=3, reflects=False)


@pytest.mark.parametrize("field", [None, 3, {}, {**STORY.as_field(), "version": 2}])
def test_a_field_of_another_form_is_no_story(field: object) -> None:
    assert ReflectedEpisode.from_field(field) is None
