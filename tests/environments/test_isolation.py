import os
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from steadyrl.environments.isolation import Isolated, IsolationError
from tests.environments import isolated_functions


@pytest.fixture(autouse=True)
def importable_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets worker processes import this folder."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)


def test_calls_are_answered_by_one_other_process():
    process_id = Isolated(isolated_functions.make_process_id, timeout=30.0)
    first, second = process_id(), process_id()
    assert first == second != os.getpid()


def test_words_printed_by_the_function_do_not_disturb_its_replies():
    double = Isolated(isolated_functions.make_printing_double, timeout=30.0)
    assert [double(number) for number in range(3)] == [0, 2, 4]


def test_a_call_that_hangs_inside_c_is_ended_and_the_next_one_is_answered():
    trouble = Isolated(isolated_functions.make_trouble, timeout=0.5)
    trouble("nothing")
    start = time.monotonic()
    with pytest.raises(IsolationError, match=r"took longer than 0.5 s"):
        trouble("hang")
    assert time.monotonic() - start < 5.0
    assert trouble("nothing") == "well"


def test_a_time_limit_works_in_threads():
    trouble = Isolated(isolated_functions.make_trouble, timeout=0.5)
    replies = []

    def ask(kind: str) -> None:
        try:
            replies.append(trouble(kind))
        except IsolationError as error:
            replies.append(str(error))

    threads = [threading.Thread(target=ask, args=(kind,)) for kind in ("sleep", "well", "sleep")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(replies) == ["took longer than 0.5 s", "took longer than 0.5 s", "well"]


def test_a_call_that_exits_is_reported_with_its_status():
    trouble = Isolated(isolated_functions.make_trouble, timeout=30.0)
    with pytest.raises(IsolationError, match=r"ended its process \(exit status 3\)"):
        trouble("exit")
    assert trouble("nothing") == "well"


def test_a_call_that_wants_sixteen_gigabytes_fails_alone():
    trouble = Isolated(isolated_functions.make_trouble, timeout=30.0)
    with pytest.raises(RuntimeError, match="MemoryError"):
        trouble("memory")
    assert trouble("nothing") == "well"


def test_an_exception_arrives_with_its_traceback():
    trouble = Isolated(isolated_functions.make_trouble, timeout=30.0)
    with pytest.raises(RuntimeError, match="KeyError: 'the value that was missing'"):
        trouble("raise")


def test_the_worker_ends_with_its_owner():
    process_id = Isolated(partial(isolated_functions.make_process_id), timeout=30.0)
    worker = process_id()
    del process_id
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
