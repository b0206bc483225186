"""Causes of failures in code that is not ours."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.errors import UserError, call_user_code
from steadyrl.environments import turn_limit


def written_in(file: str, source: str) -> Callable[..., Any]:
    """The function `call` of `source`, as if it stood in `file`."""
    scope: dict[str, Any] = {}
    exec(compile(source, file, "exec"), scope)
    function: Callable[..., Any] = scope["call"]
    return function


def test_the_line_of_a_failure_is_that_of_the_users_file_behind_a_wrapper_of_ours(
    tmp_path: Path,
) -> None:
    users = written_in(str(tmp_path / "my_tasks.py"), "\ndef call():\n    raise KeyError('limit')")
    wrapper = written_in(str(turn_limit.__file__), "def call(function):\n    return function()")

    with pytest.raises(UserError, match=r"KeyError: 'limit' \(line 3 of my_tasks\.py\)"):
        call_user_code(partial(wrapper, users), failure="task failed", remedy="")


def test_a_failure_of_our_own_has_its_own_line() -> None:
    ours = written_in(str(turn_limit.__file__), "def call():\n    raise KeyError('limit')")

    with pytest.raises(UserError, match=r"KeyError: 'limit' \(line 2 of turn_limit\.py\)"):
        call_user_code(ours, failure="task failed", remedy="")
