"""Environments of one's own, by the name of what makes them."""

import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from steadyrl.base.errors import UserError
from steadyrl.environments.custom import CustomSettings
from steadyrl.environments.protocol import Split
from steadyrl.environments.registry import AnyEnvironment
from steadyrl.environments.settings import EnvironmentSettings
from tests.driving import respond

ROOT = Path(__file__).parents[2]


@pytest.fixture
def my_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the documentation, as a module."""
    page = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in page.split("```python\n")]
    (example,) = [block for block in blocks if "class Reverse:" in block]
    (tmp_path / "my_tasks.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_tasks", raising=False)  # another test's


adapter: TypeAdapter[EnvironmentSettings] = TypeAdapter(AnyEnvironment)


@pytest.mark.usefixtures("my_tasks")
def test_a_function_or_class_that_makes_it_is_named_in_the_place_of_settings() -> None:
    given = {"name": "my_tasks:Reverse", "options": {"digits": 3}, "turns": 2}
    settings = adapter.validate_python(given)
    assert settings == CustomSettings(**given)
    assert adapter.validate_python(adapter.dump_python(settings)) == settings


@pytest.mark.usefixtures("my_tasks")
def test_the_documented_example_is_made_by_its_name_and_plays() -> None:
    settings = CustomSettings(name="my_tasks:Reverse", options={"digits": 3})
    environment = settings.make()
    for split in Split:
        task = environment.task(split, 5)
        assert environment.task(split, 5) == task
        answer = task.prompt[0].content.split()[1][::-1]
        assert len(answer) <= 3
        assert respond(environment.start(task), answer).reward == 1
        assert respond(environment.start(task), "no").reward == 0


def test_its_turns_are_what_its_settings_say() -> None:
    assert CustomSettings(name="my_tasks:Reverse", turns=6).max_turns == 6


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be made, as modules."""
    (tmp_path / "broken.py").write_text(
        "class Unread:\n"
        "    def __init__(self):\n"
        "        open('no_such_file.json')\n"
        "class Confused:\n"
        "    def __init__(self, digits=3):\n"
        "        sum(digits)\n"
        "NUMBER = 3\n"
    )
    (tmp_path / "unwritten.py").write_text("LIMIT = 10\n1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("made_by", "message"),
    [
        (
            "broken:Unread",
            r"broken:Unread failed with the options {}: FileNotFoundError: .*broken\.py:3",
        ),
        (
            "broken:Confused",
            r"failed with .* TypeError: 'int' object is not iterable \(.*broken\.py:6\)",
        ),
        ("broken:NUMBER", r"broken:NUMBER is 3, which is not callable. Name a class or a"),
        (
            "unwritten:Tasks",
            r"importing unwritten failed: ZeroDivisionError: .* \(.*unwritten\.py:2\)",
        ),
    ],
)
def test_what_fails_to_be_made_is_told_by_its_own_reason(made_by: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CustomSettings(name=made_by).make()


@pytest.mark.usefixtures("my_tasks")
@pytest.mark.parametrize(
    ("made_by", "options", "message"),
    [
        ("no_such_module:Reverse", {}, "No module named 'no_such_module'. Install"),
        ("my_tasks:Forwards", {}, "my_tasks.py has no 'Forwards'. Correct the name"),
        ("builtins:dict", {}, "a dict, which is not an environment"),  # has no signature
        ("builtins:max", {}, "TypeError: max expected at least 1 argument, got 0. Fix it, or"),
        ("builtins:nothing", {}, "builtins has no 'nothing'. Correct the name"),  # has no file
        ("my_tasks:Reverse", {"letters": 3}, "unexpected keyword argument 'letters'. Pass the"),
        (
            "my_tasks:ReverseOnce",
            {"word": "1"},
            "a ReverseOnce, which is not an environment",
        ),
    ],
)
def test_what_makes_no_environment_is_refused(
    made_by: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        CustomSettings(name=made_by, options=options).make()
