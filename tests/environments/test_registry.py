from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from steadyrl.base.errors import UserError
from steadyrl.environments import (
    Arithmetic,
    ArithmeticSettings,
    ArithmeticTeacher,
    ArithmeticTeacherSettings,
    EnvironmentSettings,
    FrozenLake,
    HotpotQA,
    ReasoningGym,
    ReasoningGymSettings,
    Sokoban,
    VerifiableMath,
)
from steadyrl.environments.registry import AnyEnvironment

adapter: TypeAdapter[EnvironmentSettings] = TypeAdapter(AnyEnvironment)


@pytest.fixture
def problems(tmp_path: Path) -> str:
    path = tmp_path / "problems.jsonl"
    path.write_text('{"problem": "1+1?", "answer": "2"}')
    return str(path)


def test_the_name_chooses_the_environment(problems: str):
    for config, kind in (
        ({"name": "arithmetic", "operands": 3}, Arithmetic),
        ({"name": "reasoning_gym", "dataset": "gcd"}, ReasoningGym),
        ({"name": "math", "path": problems}, VerifiableMath),
        ({"name": "frozen_lake"}, FrozenLake),
        ({"name": "sokoban"}, Sokoban),
        ({"name": "hotpot_qa", "questions": {"name": "synthetic"}}, HotpotQA),
    ):
        settings = adapter.validate_python(config)
        environment = settings.make()
        assert isinstance(environment, kind)
        assert adapter.validate_json(adapter.dump_json(settings)) == settings


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "chess"}, "Known names: arithmetic, reasoning_gym, math, .*, or module:Class"),
        ({"name": "arithmetic", "operand": 3}, "operand"),
        ({"name": "arithmetic", "operands": 1}, "greater than or equal to 2"),
    ],
)
def test_unknown_names_and_bad_values_are_refused(config: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        adapter.validate_python(config)


def test_the_arithmetic_teacher_teaches_arithmetic_only():
    arithmetic = ArithmeticSettings().make()
    teacher = ArithmeticTeacherSettings().make(arithmetic)
    assert isinstance(teacher, ArithmeticTeacher)
    gcd = ReasoningGymSettings(dataset="gcd").make()
    with pytest.raises(UserError, match=r"cannot demonstrate on ReasoningGym. Use it with"):
        ArithmeticTeacherSettings().make(gcd)
