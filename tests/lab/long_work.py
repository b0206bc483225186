"""A process with a worker that adds to a file for a minute.

python -m tests.lab.long_work FILE
"""

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from steadyrl.lab.running import end_with_parent, ending


def work(path: Path) -> None:
    for _ in range(1200):
        with path.open("a") as file:
            file.write(".")
        time.sleep(0.05)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ending(ProcessPoolExecutor(1, context, initializer=end_with_parent)) as pool:
        pool.submit(work, Path(sys.argv[1])).result()
