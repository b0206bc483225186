"""What the page on parts of one's own says can be done as it says."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from docs.generator.configuration import reached

from steadyrl.base.variants import Variants
from steadyrl.cli.train import described
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from tests.cli.tiny_demo import TINY
from tests.run.tiny import tiny_run

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "extending.md").read_text(encoding="utf-8")


def variants_in(annotation: Any, metadata: Any = ()) -> Iterator[Variants]:
    yield from (item for item in metadata if isinstance(item, Variants))
    inner, *more = get_args(annotation) or (None,)
    if get_origin(annotation) is Annotated:
        yield from variants_in(inner, more)
    else:
        for part in get_args(annotation):
            yield from variants_in(part)


def test_the_page_lists_every_block_that_takes_foreign_classes() -> None:
    found = {
        (f"{places[0]}.{name}".lstrip("."), variants.group): variants.base
        for kind, places in reached(RunConfig).items()
        for name, field in kind.model_fields.items()
        for variants in variants_in(field.annotation, field.metadata)
        if variants.group is not None
    }
    listed = {
        (block, group): path
        for block, path, group in re.findall(
            r"^\| `([\w.]+)` \| `([\w.]+)` \|.*\| `(steadyrl\.\w+)` \|$", PAGE, re.MULTILINE
        )
    }
    assert set(listed) == set(found)
    for key, path in listed.items():
        module, _, name = path.rpartition(".")
        assert getattr(import_module(module), name) is found[key]


@pytest.fixture
def my_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples of the pages, in one module."""
    environments = (DOCS / "environments.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", environments, re.DOTALL)
    (reverse,) = [block for block in blocks if "class Reverse:" in block]
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    text = "\n\n".join([reverse, *examples])
    (tmp_path / "my_tasks.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_tasks", None)


@pytest.mark.usefixtures("my_tasks")
def test_the_command_of_the_page_is_one() -> None:
    (command,) = re.findall(r"^steadyrl train (.*)$", PAGE, re.MULTILINE)
    config, _ = described(command.split())
    values = config.environment.model_dump()
    assert values == {"name": "my_tasks:ReverseSettings", "digits": 4}
    assert type(config.environment.make()).__name__ == "Reverse"


@pytest.mark.usefixtures("my_tasks")
def test_an_algorithm_of_ones_own_is_assembled_with_its_settings() -> None:
    options = ["--algorithm", "my_tasks:Warmer", "--algorithm.temperature", "1.5"]
    config, _ = described(["demo", *TINY, *options])
    assert config.algorithm.name == "my_tasks:Warmer"
    stages = Assembly.of(tiny_run(algorithm=config.algorithm)).stages
    assert stages[-1].algorithm._sampling.temperature == 1.5
