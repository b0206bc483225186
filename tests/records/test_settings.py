"""Settings are frozen and refuse unknown names."""

import pytest
from pydantic import ValidationError

from steadyrl.records.settings import Settings


class Paint(Settings):
    colour: str = "red"
    """Of the wall."""


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValidationError, match="color"):
        Paint(color="red")


def test_settings_do_not_change() -> None:
    paint = Paint()
    with pytest.raises(ValidationError, match="frozen"):
        paint.colour = "blue"


def test_attribute_docstrings_are_the_help() -> None:
    assert Paint.model_fields["colour"].description == "Of the wall."
