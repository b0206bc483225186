"""Learners that are killed at random moments, one after another, until one finishes.

    python -m tests.live.killed FOLDER SECONDS

Each is a fork of this process, killed by a signal without a handler when it has used a random part
of SECONDS of processor time; 0: never. The last line has the number of deaths, and the seconds of
the learner that finished.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from steadyrl.engines.driver import drive
from steadyrl.live.folder import open_live_folder
from steadyrl.live.learner_process import learn_forever
from tests.live.sessions import tiny_live

GENERATIONS = 10
MOST_DEATHS = 1000


def learn(folder: Path, seconds: float) -> None:
    """Learns in a child of this process."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    if seconds > 0:
        signal.setitimer(signal.ITIMER_PROF, seconds)
    config = open_live_folder(tiny_live(folder), folder / "live")
    drive(learn_forever(config, folder / "live", print, generations=GENERATIONS))


def main() -> None:
    """Forks learners until one of them finishes."""
    folder, most = Path(sys.argv[1]), float(sys.argv[2])
    generator, deaths = np.random.default_rng(0), 0
    while deaths < MOST_DEATHS:
        seconds = most * (0.05 + 0.95 * generator.random())
        child = os.fork()
        if child == 0:
            learn(folder, seconds if most > 0 else 0.0)
            sys.stdout.flush()
            os._exit(0)
        _, status, usage = os.wait4(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            print(deaths, usage.ru_utime + usage.ru_stime)
            return
        assert os.WIFSIGNALED(status), "a learner failed by itself"
        assert os.WTERMSIG(status) == signal.SIGPROF
        deaths += 1
    raise AssertionError("no learner finished")


if __name__ == "__main__":
    main()
