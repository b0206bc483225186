"""Settings are frozen and refuse unknown names."""

from typing import Literal

import pytest
from pydantic import Field, ValidationError

from steadyrl.base.settings import Settings


class Paint(Settings):
    colour: str = "red"
    """Of the wall."""


class Brush(Settings):
    name: Literal["round"] = "round"
    width: int = 1
    paint: Paint = Paint(colour="blue")


class Flat(Settings):
    name: Literal["flat"] = "flat"
    angle: int = 45


class Work(Settings):
    brush: Brush | Flat = Brush(width=7)
    colours: dict[str, int] = Field({"red": 1})


def test_what_a_mapping_leaves_out_is_the_default_of_the_field() -> None:
    def brush(**given: object) -> object:
        return Work.model_validate({"brush": given}).brush

    assert brush() == Brush(width=7)
    assert brush(name="round", paint={}) == Brush(width=7)
    assert brush(width=3) == Brush(width=3, paint=Paint(colour="blue"))
    assert brush(paint={"colour": "green"}) == Brush(width=7, paint=Paint(colour="green"))


def test_a_block_of_another_name_begins_with_its_own_defaults() -> None:
    assert Work.model_validate({"brush": {"name": "flat"}}).brush == Flat()


def test_mappings_that_are_no_blocks_and_blocks_that_are_whole_stay_as_given() -> None:
    work = Work.model_validate({"brush": Brush(width=2), "colours": {"blue": 2}})
    assert work.brush.width == 2
    assert work.colours == {"blue": 2}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValidationError, match="color"):
        Paint(color="red")


def test_settings_do_not_change() -> None:
    paint = Paint()
    with pytest.raises(ValidationError, match="frozen"):
        paint.colour = "blue"


def test_attribute_docstrings_are_the_help() -> None:
    assert Paint.model_fields["colour"].description == "Of the wall."
