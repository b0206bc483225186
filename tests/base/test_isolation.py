import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steadyrl.base.isolation import Isolated, IsolationError
from tests.base import isolated_functions

HANG = 60.0
"""Seconds that are far more than any of this may take."""


@pytest.fixture(autouse=True)
def importable_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets worker processes import this folder."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


@pytest.fixture(scope="module")
def patient() -> Iterator[Isolated[..., Any]]:
    """Does what is asked of it, for as long as it takes, one after the other."""
    factory = isolated_functions.make_trouble
    with Isolated(factory, timeout=HANG, workers=1, memory=2**31) as trouble:
        yield trouble


@pytest.fixture(scope="module")
def hasty() -> Iterator[Isolated[..., Any]]:
    """Does what is asked of it, for 0.3 seconds."""
    with Isolated(isolated_functions.make_trouble, timeout=0.3, workers=2) as trouble:
        yield trouble


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except OSError:
        return False
    return state.split()[0] != "Z"


def has_come(condition: Callable[[], bool]) -> bool:
    """Whether `condition` holds before long."""
    end = time.monotonic() + HANG
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_calls_are_answered_by_one_other_process(patient: Isolated[..., Any]) -> None:
    first, second = patient("process_id"), patient("process_id")
    assert first == second != os.getpid()


@pytest.mark.parametrize(
    "kind",
    [
        "hang_in_c",
        "take_the_alarm_away",
        "join_a_child_that_never_ends",
        "block_signals_and_spin",
        "ignore_signals_and_spin",
        "catch_everything",
        "stop_itself",
    ],
)
def test_a_call_that_never_ends_is_given_up_and_the_next_one_is_answered(
    hasty: Isolated[..., Any], kind: str
) -> None:
    hasty("well")
    start = time.monotonic()
    with pytest.raises(IsolationError, match=r"^took longer than 0.3 s$"):
        hasty(kind)
    assert time.monotonic() - start < HANG
    assert hasty("well") == "well"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("end_at_once", r"^ended without an answer \(exit status 3\)$"),
        ("segfault", r"^ended without an answer \(SIGSEGV\)$"),
        ("close_all_files", r"^ended without an answer"),
        ("close_all_files_and_spin", r"^ended without an answer"),
        ("write_garbage_to_all_files", r"^returned something other than plain values$"),
        ("end_politely", r"^raised SystemExit: 3$"),
        ("interrupt", r"^raised KeyboardInterrupt$"),
        ("raise_base_exception", r"^raised BaseException: of no kind$"),
        (
            "raise_key_error",
            r"^raised KeyError: 'the value that was missing' \(.*isolated_functions\.py:\d+\)$",
        ),
        ("raise_without_words", r"^raised SilentError \(.*isolated_functions\.py:\d+\)$"),
        ("recurse", r"^raised RecursionError: maximum recursion depth exceeded"),
        ("eat_memory", r"^raised MemoryError$"),
        ("return_a_function", r"^raised (AttributeError|PicklingError): Can't"),
        ("return_a_fraction", r"^returned something other than plain values$"),
        ("return_a_bomb", r"^returned something other than plain values$"),
        ("return_too_much", r"^returned 33554\d{3} bytes$"),
    ],
)
def test_whatever_a_call_does_is_a_reason_and_the_next_one_is_answered(
    patient: Isolated[..., Any], kind: str, reason: str
) -> None:
    with pytest.raises(IsolationError) as failure:
        patient(kind)
    assert re.match(reason, str(failure.value))
    assert patient("well") == "well"


def test_an_exception_has_the_traceback_of_the_worker_and_a_reason_without_its_words(
    patient: Isolated[..., Any],
) -> None:
    with pytest.raises(IsolationError) as failure:
        patient("raise_key_error")
    assert failure.value.reason == "raised KeyError"
    assert "in raise_key_error" in failure.value.__notes__[0]


def test_what_a_call_prints_reaches_nobody(
    patient: Isolated[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert patient("print_garbage") == "well"
    assert capfd.readouterr() == ("", "")


def test_plain_values_come_back_as_they_are(patient: Isolated[..., Any]) -> None:
    values = patient("return_scalars")
    assert values == (0.5, True, 3, {"a": [1, None]})
    assert list(map(type, values[:3])) == [float, bool, int]


def test_what_a_call_changes_in_its_process_the_next_one_does_not_see(
    patient: Isolated[..., Any], tmp_path: Path
) -> None:
    before = patient("describe_the_process")
    assert patient("change_the_process", str(tmp_path)) == "well"
    assert patient("describe_the_process") == before
    assert patient("start_threads_that_never_end") == "well"
    assert patient("describe_the_process") == before
    assert patient("draw") == patient("draw")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the kernel of Linux")
@pytest.mark.parametrize(
    ("kind", "returns"),
    [
        ("join_a_child_that_never_ends", False),
        ("start_a_command_and_wait", False),
        ("leave_a_hidden_process", True),
    ],
)
def test_what_a_call_started_ends_with_it(
    hasty: Isolated[..., Any], tmp_path: Path, kind: str, returns: bool
) -> None:
    file = tmp_path / "process"
    with contextlib.nullcontext() if returns else pytest.raises(IsolationError):
        hasty(kind, str(file))
    assert has_come(file.exists)
    process = int(file.read_text(encoding="utf-8"))
    assert has_come(lambda: not is_alive(process))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("kill_its_parent", "ended the process that starts its workers"),
        ("stop_its_parent", "took longer than 0.3 s"),
    ],
)
def test_a_call_that_attacks_its_parent_hangs_nobody(
    monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    monkeypatch.setattr("steadyrl.base.isolation_workers._OBEYS_WITHIN", 0.5)
    with Isolated(isolated_functions.make_trouble, timeout=0.3) as trouble:
        with pytest.raises(IsolationError, match=reason):
            trouble(kind)
        assert trouble("well") == "well"


def test_a_function_that_cannot_be_made_is_an_error_of_its_own() -> None:
    with Isolated(isolated_functions.make_nothing, timeout=HANG) as function:
        with pytest.raises(RuntimeError, match="LookupError: there is no such judge") as failure:
            function()
        assert not isinstance(failure.value, IsolationError)


def test_calls_of_several_threads_run_beside_each_other_and_each_has_its_limit(
    hasty: Isolated[..., Any],
) -> None:
    replies = []

    def ask(kind: str) -> None:
        try:
            replies.append(hasty(kind))
        except IsolationError as error:
            replies.append(str(error))

    threads = [threading.Thread(target=ask, args=(kind,)) for kind in ("spin", "well", "spin")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(replies) == ["took longer than 0.3 s", "took longer than 0.3 s", "well"]


@pytest.mark.parametrize("function", ["patient", "hasty"])
def test_results_come_in_order_however_many_workers_there_are(
    function: str, request: pytest.FixtureRequest
) -> None:
    trouble = request.getfixturevalue(function)
    pending = [trouble.submit("double_later", number) for number in range(20)]
    assert [future.result() for future in pending] == list(range(0, 40, 2))


def test_as_many_calls_run_at_once_as_there_are_workers(tmp_path: Path) -> None:
    with Isolated(isolated_functions.make_trouble, timeout=HANG, workers=3) as trouble:
        pending = [trouble.submit("meet", str(tmp_path / str(n)), 3) for n in range(3)]
        assert [future.result() for future in pending] == ["met"] * 3


def test_closing_ends_all_processes_and_gives_up_what_waits() -> None:
    trouble = Isolated(isolated_functions.make_trouble, timeout=HANG, workers=2)
    pending = [trouble.submit("spin") for _ in range(2)]
    assert has_come(lambda: len(workers_of(trouble)) == 2)
    pending += [trouble.submit("well") for _ in range(100)]
    processes = [server_of(trouble), *workers_of(trouble)]
    trouble.close()
    assert has_come(lambda: not any(map(is_alive, processes)))
    for future in pending[:2]:
        with pytest.raises(RuntimeError, match="closed during a call"):
            future.result()
    assert sum(future.cancelled() for future in pending) == 100


def test_the_processes_end_with_their_owner() -> None:
    trouble = Isolated(isolated_functions.make_trouble, timeout=HANG)
    worker = trouble("process_id")
    del trouble
    assert has_come(lambda: not is_alive(worker))


ORPHAN = """
import signal, sys
from steadyrl.base.isolation import Isolated
from tests.base import isolated_functions
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
trouble = Isolated(isolated_functions.make_trouble, timeout=600)
trouble("well")
server = trouble._server
print(server._process.pid, *[worker.process for worker in server._all], flush=True)
trouble(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("hang_in_c", signal.SIGKILL),
        pytest.param("block_signals_and_spin", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_workers_end_with_a_process_that_is_killed_in_the_middle_of_a_call(
    kind: str, number: int
) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    assert owner.stdout is not None
    processes = list(map(int, owner.stdout.readline().split()))
    assert len(processes) == 2
    assert all(map(is_alive, processes))
    os.killpg(owner.pid, number)  # as Ctrl-C does
    _, errors = owner.communicate(timeout=HANG)
    assert has_come(lambda: not any(map(is_alive, processes)))
    assert errors.count("Traceback") == (number == signal.SIGINT)  # the owner's own


def server_of(isolated: Isolated[..., Any]) -> int:
    assert isolated._server is not None
    return isolated._server._process.pid


def workers_of(isolated: Isolated[..., Any]) -> list[int]:
    server = isolated._server
    return [] if server is None else [worker.process for worker in list(server._all)]
