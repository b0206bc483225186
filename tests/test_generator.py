"""The generated reference leaves nothing out."""

import re
from pathlib import Path

import pytest
from docs.generator import outdated
from docs.generator.api import constructor, outline, packages
from docs.generator.configuration import configuration_page
from docs.generator.markdown import slug

from steadyrl import analysis, environments
from steadyrl.base.settings import Settings
from steadyrl.engines import Sampling
from steadyrl.recipes import RECIPES


def fields_of(settings: Settings) -> set[str]:
    """The names of the fields of settings and of the blocks in them."""
    below = [getattr(settings, name) for name in type(settings).model_fields]
    blocks = [fields_of(block) for block in below if isinstance(block, Settings)]
    return set(type(settings).model_fields).union(*blocks)


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_of_a_recipe_is_in_the_reference(name: str) -> None:
    listed = re.findall(r"^\| `(\w+)` \|", configuration_page(), re.MULTILINE)
    assert fields_of(RECIPES[name]()) - {"name", *listed} == set()


def test_settings_of_user_code_are_in_the_reference() -> None:
    _, *sections = re.split(r"^## ", configuration_page(), flags=re.MULTILINE)
    for place, fields in {
        "environment": ["options", "turns", "blocking"],
        "environment.rewards": ["options", "conversational", "timeout", "weight", "label"],
    }.items():
        title = f"{place} `module:Class or module:function`"
        (section,) = (each for each in sections if each.startswith(f"{title}\n"))
        assert set(fields) <= set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
        assert f"(#{slug(title)})" in configuration_page()


def test_a_page_that_the_code_would_write_otherwise_is_named(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    pages = {path: lambda: "new\n"}

    assert outdated(pages) == {path: "new\n"}
    path.write_text("old\n")
    assert outdated(pages) == {path: "new\n"}
    path.write_text("new\n")
    assert outdated(pages) == {}


def test_an_outline_has_fields_and_docstrings_and_nothing_private() -> None:
    lines = outline(analysis, "Series")
    assert lines[0] == "class Series:"
    assert '    steps: Int[np.ndarray, " S"]' in lines
    assert '    def at(self, index: Bool[np.ndarray, " S"]) -> "Series":' in lines
    assert not any("return" in line for line in lines)


def test_the_call_of_a_record_says_what_is_given_by_keyword() -> None:
    assert constructor(environments.Message) == ["Message(*, role, content)", ""]
    assert constructor(Sampling)[0].startswith("Sampling(*, temperature=1.0, ")
    assert constructor(environments.Environment) == constructor(environments.split_of) == []


def test_every_exported_name_exists() -> None:
    for package in packages():
        for name in getattr(package, "__all__", ()):
            assert outline(package, name), f"{package.__name__}.{name}"
