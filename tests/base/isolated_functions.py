"""Functions that a worker process of the isolation tests imports."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np


def make_nothing() -> Callable[[], int]:
    raise LookupError("there is no such judge")


def make_trouble() -> Callable[..., Any]:
    """A function that does what the function of that name here does."""

    def trouble(kind: str, *args: Any) -> Any:
        return globals()[kind](*args)

    return trouble


def well() -> str:
    return "well"


def process_id() -> int:
    return os.getpid()


def double_later(number: int) -> int:
    time.sleep(0.001)
    return 2 * number


def meet(file: str, guests: int) -> str:
    """Waits until as many calls have left a file in one folder."""
    Path(file).touch()
    while len(list(Path(file).parent.iterdir())) < guests:
        time.sleep(0.001)
    return "met"


def hang_in_c() -> None:
    9**9**9  # one C call, deaf to signal handlers


def take_the_alarm_away() -> None:
    signal.alarm(60)
    signal.alarm(0)
    spin()


def spin() -> None:
    while True:
        pass


def join_a_child_that_never_ends(file: str = "") -> None:
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    note(file, child)
    os.waitpid(child, 0)


def leave_a_hidden_process(file: str) -> str:
    """A grandchild of another session, whose parent has ended."""
    child = os.fork()
    if child == 0:
        os.setsid()
        grandchild = os.fork()
        if grandchild == 0:
            time.sleep(600)
        note(file, grandchild)
        os._exit(0)
    os.waitpid(child, 0)
    return "well"


def start_a_command_and_wait(file: str) -> None:
    command = subprocess.Popen(["sleep", "600"], start_new_session=True)
    note(file, command.pid)
    command.wait()


def note(file: str, process: int) -> None:
    if file:
        with open(file, "w", encoding="utf-8") as handle:
            handle.write(str(process))


def block_signals_and_spin() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()))
    spin()


def ignore_signals_and_spin() -> None:
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    spin()


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def stop_its_parent() -> None:
    os.kill(os.getppid(), signal.SIGSTOP)
    spin()


def kill_its_parent() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    spin()


def start_threads_that_never_end() -> str:
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(600,)).start()
    return "well"


def catch_everything() -> None:
    while True:
        with contextlib.suppress(BaseException):
            spin()


def print_garbage() -> str:
    for stream in (1, 2):
        os.write(stream, b"garbage\n" * 1000)
    print("garbage", flush=True)
    print("garbage", file=sys.stderr, flush=True)
    return "well"


def close_all_files() -> str:
    os.closerange(0, 1024)
    return "well"


def close_all_files_and_spin() -> None:
    os.closerange(0, 1024)
    spin()


def write_garbage_to_all_files() -> str:
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(number, b"\x05\x00\x00\x00\x00\x00\x00\x00abcdefgh" * 4)
    return "well"


def end_at_once() -> None:
    os._exit(3)


def end_politely() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def raise_base_exception() -> None:
    raise BaseException("of no kind")


def raise_key_error() -> None:
    raise KeyError("the value that was missing")


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("there are no words")


def raise_without_words() -> None:
    raise SilentError


def recurse() -> None:
    recurse()


def eat_memory() -> None:
    bytearray(2**34)


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def return_a_function() -> Any:
    return lambda: None


def return_a_fraction() -> Any:
    return Fraction(1, 2)


def return_too_much() -> bytes:
    return bytes(2**25)


class Bomb:
    """Hangs whoever reads it."""

    def __reduce__(self) -> Any:
        return time.sleep, (600,)


def return_a_bomb() -> Any:
    return Bomb()


def return_scalars() -> Any:
    return (np.float64(0.5), np.bool_(True), np.int64(3), {"a": [1, None]})


def change_the_process(folder: str) -> str:
    os.chdir(folder)
    os.environ["JUDGE"] = "was here"
    sys.setrecursionlimit(77)
    sys.path.insert(0, folder)
    signal.alarm(60)
    return "well"


def describe_the_process() -> tuple[Any, ...]:
    return (
        os.getcwd(),
        os.environ.get("JUDGE"),
        sys.getrecursionlimit(),
        list(sys.path),
        signal.alarm(0),
        threading.active_count(),
    )


def draw() -> tuple[float, float]:
    return random.random(), float(np.random.rand())
