"""An objective of one's own: the example of the documentation in a run, and what is refused."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from steadyrl.base.errors import UserError
from steadyrl.cli.main import main
from steadyrl.cli.train import described
from steadyrl.objectives import Truncation
from steadyrl.records.run_folder import RunFolder
from steadyrl.run.config import RunConfig, from_yaml, parse, to_yaml
from steadyrl.run.execution import start_run
from tests.algorithms.terms import far_apart
from tests.run.tiny import tiny_run

PAGE = (Path(__file__).parents[2] / "docs" / "algorithms" / "README.md").read_text("utf-8")
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

BROKEN = """
import torch
from torch import Tensor

from steadyrl.objectives import MiniRL, Objective, TokenTerms

class Summed(Objective):
    def __call__(self, terms: TokenTerms) -> Tensor:
        return terms.logprobs.sum(dim=1)

class Raising(Objective):
    def __call__(self, terms: TokenTerms) -> Tensor:
        return terms.logprobs * self.missing

class Whole(Objective):
    def __call__(self, terms: TokenTerms) -> Tensor:
        return terms.advantages.long()

class Constant(Objective):
    def __call__(self, terms: TokenTerms) -> Tensor:
        return terms.advantages * terms.old_logprobs

class Elsewhere(Objective):
    def __call__(self, terms: TokenTerms) -> Tensor:
        return terms.advantages * torch.ones(1, requires_grad=True)

class Infinite(Objective):
    def __call__(self, terms: TokenTerms) -> Tensor:
        return terms.logprobs / terms.advantages

class Idle(Objective):
    proportional_to_advantage = True
    def __call__(self, terms: TokenTerms) -> Tensor:
        return terms.logprobs

class Derived(MiniRL):
    bonus: float = 0.0

class Renamed(MiniRL):
    name: str = ""

class Silent(Objective):
    pass

class Unrelated:
    pass

LIMIT = 3
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example as `my_objectives`, and classes that cannot be used as `broken_objectives`."""
    (tmp_path / "my_objectives.py").write_text(EXAMPLE)
    (tmp_path / "broken_objectives.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("my_objectives", "broken_objectives"):
        sys.modules.pop(name, None)


def run_with(objective: Any, **changes: Any) -> RunConfig:
    """A tiny run with this objective, as a configuration file describes it."""
    values = tiny_run(**{"cold_start": None, "steps": 2, **changes}).model_dump(mode="json")
    values["algorithm"]["objective"] = objective
    return parse(values, "config.yaml")


def test_the_example_is_short_and_computes_what_it_says() -> None:
    assert len(EXAMPLE.splitlines()) <= 30
    objective = run_with("my_objectives:Tapered").algorithm.objective
    terms = far_apart()
    weight = (terms.logprobs - terms.rollout_logprobs).exp().clamp(max=1.0)
    weight = torch.where(terms.advantages < 0, weight, 1.0)
    expected = torch.where(terms.loss_mask, weight * terms.advantages * terms.logprobs, 0.0)
    torch.testing.assert_close(objective(terms), expected)
    capped = objective.masks(terms).truncated & terms.loss_mask
    assert torch.equal(capped, terms.loss_mask & (terms.advantages < 0) & (weight == 1))
    assert capped.any()


def test_the_example_trains_and_is_written_down(tmp_path: Path) -> None:
    config = run_with({"name": "my_objectives:Tapered", "cap": 1.0 + 1e-4})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert from_yaml(tmp_path / "config.yaml") == config
    assert config.algorithm.objective.cap == 1.0001

    folder = start_run(config, tmp_path / "run")
    rows = [row for row in RunFolder(folder.path).read_metrics() if "loss" in row]
    assert rows
    assert all(0 <= row["truncated_weight_fraction"] < 1 for row in rows)
    assert all("clip_fraction_low" not in row for row in rows)


def test_its_flags_are_those_of_the_class() -> None:
    config = run_with("my_objectives:Tapered")
    overlapping = config.engine.model_copy(update={"overlap": True})
    run_with("my_objectives:Tapered", engine=overlapping)
    with pytest.raises(UserError, match="would be corrected twice"):
        Truncation().apply_to(config.algorithm.objective)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            {"name": "my_objectives:Tapered", "cap": 0},
            r"objective\.cap: got 0, expected: number, above 0",
        ),
        ({"name": "my_objectives:Tapered", "clip": 1}, r"objective\.clip: unknown setting, got 1"),
        ("my_objectives:Taper", "has no 'Taper'. Correct the name"),
        ("my_objective:Tapered", "No module named 'my_objective'. Install the package, or put"),
        ("broken_objectives:Unrelated", "which is not a subclass of .*Objective. Derive it"),
        ("broken_objectives:LIMIT", "is 3, which is not a subclass of .*Objective. Derive it"),
        ("broken_objectives:Silent", "lacks methods of .*Objective: __call__. Define them"),
        (
            "broken_objectives:Derived",
            "inherits the name 'minirl' from the class that it derives from. Add the line `name: ",
        ),
        (
            "broken_objectives:Summed",
            r":Summed returned shape \(3,\) for tokens of shape \(3, 3\). Return one value",
        ),
        (
            "broken_objectives:Raising",
            r":Raising.__call__ failed: AttributeError: .* \(.*broken_objectives\.py:13\)",
        ),
        ("broken_objectives:Whole", r":Whole returned torch.int64 instead of floats"),
        ("broken_objectives:Constant", ":Constant returned values without a gradient"),
        ("broken_objectives:Elsewhere", "whose gradient does not reach terms.logprobs"),
        ("broken_objectives:Infinite", "that are not finite on a small batch"),
        ("broken_objectives:Idle", "sets proportional_to_advantage, but a row whose advantages"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_with_the_configuration(
    objective: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        run_with(objective)
    assert "algorithm" in str(refusal.value)


def test_the_command_line_takes_the_documented_options() -> None:
    (options,) = re.findall(
        r"^steadyrl train RECIPE (--algorithm\.objective.*)$", PAGE, re.MULTILINE
    )
    config, _ = described(["demo", *options.split()])
    assert config.algorithm.objective.model_dump() == {"name": "my_objectives:Tapered", "cap": 2.0}


def test_the_command_line_refuses_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["train", "demo", "--algorithm.objective", "broken_objectives:Silent"])
    told = capsys.readouterr().err
    assert code == 2
    assert len(told.splitlines()) == 1
    assert "--algorithm.objective: 'broken_objectives:Silent' lacks methods" in told


def test_a_subclass_of_a_built_in_objective_has_a_name_of_its_own() -> None:
    objective = run_with({"name": "broken_objectives:Renamed", "clip_low": 0.1}).algorithm.objective
    assert (objective.name, objective.clip_low) == ("broken_objectives:Renamed", 0.1)
