"""Functions that a worker process of the isolation tests imports."""

import os
import time
from collections.abc import Callable


def make_double() -> Callable[[int], int]:
    return lambda number: 2 * number


def make_process_id() -> Callable[[], int]:
    return os.getpid


def make_printing_double() -> Callable[[int], int]:
    def double(number: int) -> int:
        print("words on standard output", flush=True)
        return 2 * number

    return double


def make_trouble() -> Callable[[str], str]:
    """A function that does what its argument says."""

    def trouble(kind: str) -> str:
        match kind:
            case "sleep":
                time.sleep(60)
            case "hang":
                9**9**9  # one C call, deaf to signal handlers
            case "exit":
                raise SystemExit(3)
            case "memory":
                bytearray(2**34)
            case "raise":
                raise KeyError("the value that was missing")
        return "well"

    return trouble
