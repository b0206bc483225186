from math import sqrt

import numpy as np
import pytest
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.environments.arithmetic import Arithmetic, ArithmeticSettings
from steadyrl.environments.arithmetic_styles import Style, read
from steadyrl.environments.arithmetic_teacher import ArithmeticTeacher, ArithmeticTeacherSettings
from steadyrl.environments.protocol import Split


def binomial_margin(rate: float, trials: int) -> float:
    """Four standard errors: exceeded by chance once in 16,000 seeds."""
    return 4 * sqrt(rate * (1 - rate) / trials)


@pytest.mark.parametrize("operands", [2, 4, 6])
def test_whole_chains_are_right_at_the_predicted_rate(operands: int):
    environment = Arithmetic(ArithmeticSettings(operands=operands))
    teacher = ArithmeticTeacher(ArithmeticTeacherSettings(error_rate=0.25), environment)
    generator = np.random.default_rng(0)
    rewards = []
    for index in range(3000):
        task = environment.task(Split.TRAIN, index)
        response = teacher.demonstrate(task, generator)
        rewards.append(environment.start(task).respond(response).reward)
    expected = 0.75 ** (operands - 1)
    assert abs(np.mean(rewards) - expected) < binomial_margin(expected, 3000)


def test_each_step_errs_at_the_error_rate_from_the_stated_value():
    environment = Arithmetic(ArithmeticSettings(max_result=20))
    settings = ArithmeticTeacherSettings(error_rate=0.3, max_offset=3)
    teacher = ArithmeticTeacher(settings, environment)
    generator = np.random.default_rng(1)
    offsets = []
    for index in range(3000):
        task = environment.task(Split.TRAIN, index)
        statement = read(teacher.demonstrate(task, generator))
        assert statement is not None
        stated = (task.payload[0], *statement.results)
        for before, operand, after in zip(
            stated, task.payload[1:], statement.results, strict=False
        ):
            assert 0 <= after <= 20
            if 0 <= before + operand <= 20:  # otherwise the bound is stated
                offsets.append(after - before - operand)
    wrong = [offset for offset in offsets if offset]
    assert abs(len(wrong) / len(offsets) - 0.3) < binomial_margin(0.3, len(offsets))
    assert set(wrong) == {-3, -2, -1, 1, 2, 3}


def test_a_mistake_carried_on_consistently_still_earns_nothing():
    environment = Arithmetic(ArithmeticSettings(max_operand=20, max_result=40))
    task = environment.task(Split.TRAIN, 0)
    first, *operands = task.payload
    # One more than the truth at the first step, and right from there on.
    carried = [str(sum(operands[:step], first) + 1) for step in range(1, len(operands) + 1)]
    outcome = environment.start(task).respond(",".join(carried))
    assert outcome.reward == 0.0
    assert outcome.feedback.startswith("step 1:")


@pytest.mark.parametrize("style", Style)
def test_an_errorless_teacher_is_always_right_in_its_style(style: Style):
    environment = Arithmetic(ArithmeticSettings())
    settings = ArithmeticTeacherSettings(error_rate=0.0, style=style)
    teacher = ArithmeticTeacher(settings, environment)
    for index in range(200):
        task = environment.task(Split.TRAIN, index)
        response = teacher.demonstrate(task, np.random.default_rng(index))
        statement = read(response)
        assert statement is not None
        assert statement.style == style
        assert environment.start(task).respond(response).reward == 1.0


def test_equal_seeds_give_equal_demonstrations():
    environment = Arithmetic(ArithmeticSettings())
    teacher = ArithmeticTeacher(ArithmeticTeacherSettings(error_rate=0.9), environment)
    task = environment.task(Split.TRAIN, 0)
    first, second = (
        [teacher.demonstrate(task, generator) for _ in range(20)]
        for generator in (np.random.default_rng(5), np.random.default_rng(5))
    )
    assert first == second
    assert len(set(first)) > 5


def test_a_multi_turn_environment_is_refused():
    environment = Arithmetic(ArithmeticSettings(turns="multi"))
    with pytest.raises(UserError, match=r"turns='multi'.*turns='single'"):
        ArithmeticTeacher(ArithmeticTeacherSettings(), environment)


def test_a_teacher_that_is_never_right_is_refused():
    with pytest.raises(ValidationError, match="less than 1"):
        ArithmeticTeacherSettings(error_rate=1.0)
