"""What the page on parts of one's own says can be done as it says."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import torch
from docs.generator.configuration import reached

from steadyrl.base.variants import Variants
from steadyrl.cli.train import described
from steadyrl.environments import Split
from steadyrl.objectives import TokenTerms
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
    """The examples of the page, in the files that it names."""
    (environment, objective, algorithm) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    text = "\n\n".join([environment, algorithm])
    (tmp_path / "my_tasks.py").write_text(text, encoding="utf-8")
    (tmp_path / "my_objectives.py").write_text(objective, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("my_tasks", "my_objectives"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("my_tasks")
def test_the_commands_of_the_page_are_some() -> None:
    command, other = re.findall(r"^steadyrl train (.*)$", PAGE, re.MULTILINE)
    config, _ = described(command.split())
    values = config.environment.model_dump()
    assert values == {"name": "my_tasks:ReverseSettings", "digits": 4}
    environment = config.environment.make()
    task = environment.task(Split.TRAIN, 0)
    assert environment.start(task).respond(task.payload[::-1]).reward == 1.0
    objective = described(other.split())[0].algorithm.objective
    assert objective.model_dump() == {"name": "my_objectives:SoftClip", "width": 0.1}


@pytest.mark.usefixtures("my_tasks")
def test_the_objective_of_the_page_halves_the_weight_at_its_width() -> None:
    source = Path(import_module("my_objectives").__file__ or "").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 30
    objective = import_module("my_objectives").SoftClip(width=0.5)
    log_ratio = torch.tensor([[0.0, 0.5, -0.5, 1.0]], dtype=torch.float64)
    old = torch.full((1, 4), -2.0, dtype=torch.float64)
    logprobs = (old + log_ratio).requires_grad_()
    terms = TokenTerms(
        logprobs=logprobs,
        old_logprobs=old,
        rollout_logprobs=old,
        advantages=torch.full((1, 4), 3.0, dtype=torch.float64),
        loss_mask=torch.ones(1, 4, dtype=torch.bool),
    )
    objective(terms).sum().backward()
    gates = torch.tensor([[1.0, 0.5, 0.5, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(logprobs.grad, 3.0 * log_ratio.exp() * gates)
    masks = objective.masks(terms)
    assert masks.clipped_low is not None
    assert masks.clipped_high is not None
    assert masks.clipped_high.tolist() == [[False, False, False, True]]
    assert not masks.clipped_low.any()


@pytest.mark.usefixtures("my_tasks")
def test_an_algorithm_of_ones_own_is_assembled_with_its_settings() -> None:
    options = ["--algorithm", "my_tasks:Warmer", "--algorithm.temperature", "1.5"]
    config, _ = described(["demo", *TINY, *options])
    assert config.algorithm.name == "my_tasks:Warmer"
    stages = Assembly.of(tiny_run(algorithm=config.algorithm)).stages
    assert stages[-1].algorithm._sampling.temperature == 1.5
