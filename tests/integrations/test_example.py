"""The example of a plain loop learns, with the routes of its rollouts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "transformers_r3.py"


@pytest.mark.slow
def test_the_plain_loop_learns_and_replays_its_rollouts() -> None:
    command = [sys.executable, str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    lines = re.findall(r"reward ([\d.]+), largest \|log mismatch\| (\S+)", done.stdout)

    assert len(lines) == 20
    assert float(lines[0][0]) < 0.6
    assert float(lines[-1][0]) > 0.75
    assert max(float(mismatch) for _, mismatch in lines) < 1e-5
