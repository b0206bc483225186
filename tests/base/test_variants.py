"""Settings that come in variants by name, also from other packages."""

import sys
from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field, ValidationError

from steadyrl.base.settings import Settings
from steadyrl.base.variants import Variant, Variants, variants_of


class Shape(Variant):
    @abstractmethod
    def area(self) -> float: ...


class Square(Shape):
    name: Literal["square"] = "square"
    side: float = 1.0

    def area(self) -> float:
        return self.side**2


class Rectangle(Square):
    name: Literal["rectangle"] = "rectangle"
    height: float = 2.0

    def area(self) -> float:
        return self.side * self.height


class Made(Shape):
    options: dict[str, int] = Field(default_factory=dict)

    @classmethod
    def _accept_any_name(cls, name: str) -> str:
        return name

    def area(self) -> float:
        return 0.0


class Titled(Square):
    name: Literal["titled"] = "titled"
    title: str


GROUP = "test.shapes"
AnyShape = Annotated[Shape, Variants(Shape, GROUP, Square, Rectangle)]


class Drawing(Settings):
    shape: AnyShape = Square(side=3)
    other: AnyShape | None = None
    more: list[AnyShape] = Field(default_factory=list)


class Closed(Settings):
    """Nothing but the built-in variants is known."""

    shape: Annotated[Shape, Variants(Shape, None, Square, Rectangle)]


class Layers(Settings):
    drawing: Drawing = Drawing(shape=Rectangle(side=5))


FOREIGN = """
from steadyrl.base.settings import Settings
from {here} import Shape, Square

class Circle(Shape):
    radius: float = 1.0

    def area(self) -> float:
        return 3 * self.radius**2

class Unfinished(Shape):
    pass

class Misnamed(Circle):
    name: str = "disc"

class Usurper(Circle):
    name: str = "square"

class Line(Settings):
    length: int = 1

def function(digits=1):
    return digits
"""


@pytest.fixture(autouse=True)
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `my_shapes`, of a package that registers a circle."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "drawing_of_test", sys.modules[__name__])
    monkeypatch.delitem(sys.modules, "my_shapes", raising=False)
    (tmp_path / "my_shapes.py").write_text(FOREIGN.format(here="drawing_of_test"))
    info = tmp_path / "my_shapes-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-shapes\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\nround = my_shapes:Circle\nlost = my_shapes:Lost\n"
    )


def drawn(shape: Any) -> Shape:
    return Drawing.model_validate({"shape": shape}).shape


def refusal(shape: Any, kind: type[Settings] = Drawing) -> tuple[tuple[Any, ...], str]:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({"shape": shape})
    (problem,) = caught.value.errors()
    return problem["loc"], problem["msg"]


def test_a_name_or_a_mapping_with_a_name_chooses_the_variant() -> None:
    assert drawn("rectangle") == Rectangle()
    assert drawn({"name": "rectangle", "side": 4}) == Rectangle(side=4)
    assert drawn(Rectangle(side=4)) == Rectangle(side=4)


def test_a_variant_begins_with_the_fields_default_or_else_its_own() -> None:
    assert drawn("square") == drawn({}) == Square(side=3)
    assert drawn("rectangle") == Rectangle(side=1)
    layers = Layers.model_validate({"drawing": {"shape": {"height": 7}}})
    assert layers.drawing.shape == Rectangle(side=5, height=7)
    assert Layers.model_validate({"drawing": {"shape": "square"}}).drawing.shape == Square(side=3)


def test_optional_and_repeated_variants_are_chosen_too() -> None:
    drawing = Drawing.model_validate({"other": "rectangle", "more": ["square", {"name": "round"}]})
    assert drawing.other == Rectangle()
    assert [shape.area() for shape in drawing.more] == [1, 3]


@pytest.mark.parametrize("name", ["my_shapes:Circle", "round"])
def test_a_foreign_class_is_named_by_its_module_or_by_an_entry_point(name: str) -> None:
    assert drawn({"name": name, "radius": 2}).area() == 12
    assert drawn(name).name == "my_shapes:Circle"


@pytest.mark.parametrize("shape", ["square", {"name": "rectangle", "side": 2}, "round"])
def test_dumps_hold_all_fields_and_are_read_back(shape: Any) -> None:
    drawing = Drawing.model_validate({"shape": shape, "other": "round", "more": [shape]})
    written = drawing.model_dump(mode="json")
    assert set(written["shape"]) == set(type(drawing.shape).model_fields)
    assert Drawing.model_validate(yaml.safe_load(yaml.safe_dump(written))) == drawing
    assert Drawing.model_validate_json(drawing.model_dump_json()) == drawing


def test_variants_are_equal_by_class_and_fields() -> None:
    assert Drawing(shape=Square(side=2)) == Drawing.model_validate({"shape": {"side": 2}})
    assert Drawing(shape=Square(side=1)) != Drawing(shape=Rectangle(side=1))


def test_a_variant_keeps_its_name() -> None:
    with pytest.raises(ValidationError, match="'square'"):
        Square.model_validate({"name": "rectangle"})
    assert drawn("round") == drawn({"name": "my_shapes:Circle"})


def test_fields_of_the_chosen_variant_are_checked_where_they_stand() -> None:
    assert refusal({"name": "rectangle", "width": 1})[0] == ("shape", "width")
    assert refusal({"name": "square", "height": 1})[0] == ("shape", "height")
    assert refusal({"name": "round", "radius": "far"})[0] == ("shape", "radius")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("squares", "unknown name, got 'squares'. Did you mean 'square'?"),
        ("zork", "unknown name, got 'zork'. Known names: square, rectangle, lost, round"),
        ("lost", "'lost' is my_shapes:Lost and cannot be loaded: AttributeError: "),
        ("no_shapes:Circle", "No module named 'no_shapes'. Install the package, or put "),
        ("my_shapes:Lost", "has no 'Lost'. Correct the name"),
        ("my_shapes:function", "which is not a subclass of "),
        ("my_shapes:Line", "<class 'my_shapes.Line'>, which is not a subclass of "),
        ("my_shapes:Shape", "which is not a subclass of "),
        ("my_shapes:Unfinished", "lacks methods of "),
        ("my_shapes:Misnamed", "declares the name 'disc', under which it is not registered"),
        ("my_shapes:Usurper", "declares the name 'square', under which it is not registered"),
        ({"name": 3}, "required. It selects the settings of the block"),
    ],
)
def test_what_is_wrong_with_a_name_is_told_at_the_name(shape: Any, message: str) -> None:
    place, told = refusal(shape)
    assert place == ("shape", "name")
    assert message in told


def test_neither_a_name_nor_a_mapping_is_refused() -> None:
    assert "expected a name or a mapping with a name" in refusal(3)[1]
    with pytest.raises(ValidationError, match="It selects the settings"):
        Drawing.model_validate({"other": {"side": 1}})


def test_a_wrapper_takes_what_is_not_a_class_of_settings() -> None:
    class Wrapping(Settings):
        shape: Annotated[Shape, Variants(Shape, GROUP, Square, wrapper=Made)]

    value = {"shape": {"name": "my_shapes:function", "options": {"digits": 2}}}
    assert Wrapping.model_validate(value).model_dump() == value
    assert Wrapping.model_validate({"shape": "my_shapes:Circle"}).shape.area() == 3
    assert "is not a subclass of" in refusal("my_shapes:Line", Wrapping)[1]


def test_a_bare_text_may_stand_for_a_field() -> None:
    class Bare(Settings):
        shape: Annotated[Shape, Variants(Shape, None, Square, Titled, bare=(Titled, "title"))]

    assert Bare.model_validate({"shape": "org/picture"}).shape == Titled(title="org/picture")
    assert Bare.model_validate({"shape": "square"}).shape == Square()
    assert "Did you mean 'square'" in refusal("sqare", Bare)[1]
    assert "Known names" in refusal({"name": "org/picture"}, Bare)[1]
    assert "Known names: square, " in refusal("my_shapes:Circle", Closed)[1]


def test_the_variants_of_a_field_are_found_in_its_annotation() -> None:
    found = [variants_of(field) for field in Drawing.model_fields.values()]
    assert all(variants is not None and "round" in variants.names() for variants in found)
    assert variants_of(Square.model_fields["side"]) is None
