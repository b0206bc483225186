"""Causes of failures in code that is not ours."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.errors import UserError, call_user_code, is_of_user_code
from steadyrl.environments import turn_limit


def written_in(file: str, source: str) -> Callable[..., Any]:
    """The function `call` of `source`, as if it stood in `file`."""
    scope: dict[str, Any] = {}
    exec(compile(source, file, "exec"), scope)
    function: Callable[..., Any] = scope["call"]
    return function


def test_the_place_of_a_failure_is_in_the_users_file_behind_a_wrapper_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    users = written_in(str(tmp_path / "my_tasks.py"), "\ndef call():\n    raise KeyError('limit')")
    wrapper = written_in(str(turn_limit.__file__), "def call(function):\n    return function()")

    with pytest.raises(UserError, match=r"KeyError: 'limit' \(my_tasks\.py:3\)"):
        call_user_code(partial(wrapper, users), failure="task failed", remedy="")


def test_the_place_is_the_innermost_line_of_the_users_files_whatever_library_they_call(
    tmp_path: Path,
) -> None:
    reads = written_in(str(tmp_path / "read.py"), "import json\ndef call():\n    json.loads('?')")
    tasks = written_in(str(tmp_path / "tasks.py"), "def call(function):\n    return function()")

    with pytest.raises(UserError, match=r"JSONDecodeError: .* \(.*read\.py:3\)"):
        call_user_code(partial(tasks, reads), failure="task failed", remedy="")


def test_a_setting_without_a_type_is_named_with_what_to_write(tmp_path: Path) -> None:
    source = (
        "from pydantic import BaseModel\ndef call():\n    type('A', (BaseModel,), {'cap': 1.0})"
    )
    message = (
        r"^import failed: PydanticUserError: cap = 1\.0 has no type\. "
        r"Annotate it, as in cap: TYPE = 1\.0 \(.*a\.py:3\)\. $"
    )
    with pytest.raises(UserError, match=message):
        call_user_code(
            written_in(str(tmp_path / "a.py"), source), failure="import failed", remedy=""
        )


def test_a_failure_of_our_own_has_no_place() -> None:
    ours = written_in(str(turn_limit.__file__), "def call():\n    raise KeyError('limit')")

    with pytest.raises(UserError, match=r"^task failed: KeyError: 'limit'\. $"):
        call_user_code(ours, failure="task failed", remedy="")


def test_a_working_folder_that_is_gone_leaves_the_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    users = written_in(str(gone / "my_tasks.py"), "def call():\n    raise KeyError('limit')")
    gone.rmdir()

    with pytest.raises(UserError, match=r"'limit' \(/.*/gone/my_tasks\.py:2\)"):
        call_user_code(users, failure="task failed", remedy="")


def test_an_exception_is_of_user_code_only_if_nothing_of_ours_is_closer_to_it(
    tmp_path: Path,
) -> None:
    raises = written_in(str(tmp_path / "my_tasks.py"), "def call():\n    raise KeyError('limit')")
    calls = written_in(str(tmp_path / "my_tasks.py"), "def call(function):\n    function()")
    ours = written_in(str(turn_limit.__file__), "def call(function):\n    function()")
    fails = written_in(str(turn_limit.__file__), "def call():\n    raise KeyError('limit')")

    found = []
    for function in (partial(ours, raises), partial(ours, partial(calls, fails))):
        with pytest.raises(KeyError) as failure:
            function()
        found.append(is_of_user_code(failure.value))

    assert found == [True, False]
