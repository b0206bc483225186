"""Deaths at random moments neither loses a session nor learns from one twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from steadyrl.live.records import Verdict
from steadyrl.live.store import SessionStore
from tests.live.killed import GENERATIONS
from tests.live.sessions import fill, tiny_live

DEATHS = 8
SHARE = 0.4
"""Most of the processor time of a whole learner that one has before it dies. More than a quarter is
needed to begin."""


def learners(folder: Path, seconds: float) -> tuple[int, float]:
    """Number of deaths until a learner has finished, and its processor time."""
    command = [sys.executable, "-m", "tests.live.killed", str(folder), str(seconds)]
    done = subprocess.run(command, check=True, timeout=600, stdout=subprocess.PIPE, text=True)
    deaths, spent = done.stdout.split()[-2:]
    return int(deaths), float(spent)


def prepared(folder: Path) -> SessionStore:
    tiny_live(folder)  # writes the model
    (folder / "live").mkdir()
    store = SessionStore(f"sqlite:///{(folder / 'live' / 'sessions.sqlite').resolve()}")
    fill(store, [f"s{number:02d}" for number in range(4 * GENERATIONS + 2)])
    return store


@pytest.mark.slow
def test_killed_learners_end_with_the_sessions_and_weights_of_one_that_was_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, cut = prepared(tmp_path / "whole"), prepared(tmp_path / "cut")
    none, spent = learners(tmp_path / "whole", 0.0)
    deaths, _ = learners(tmp_path / "cut", SHARE * spent)

    assert none == 0
    assert deaths >= DEATHS

    expected, found = whole.generations(), cut.generations()
    assert [g.verdict for g in found] == [Verdict.PROMOTED] * (GENERATIONS + 1)
    assert found == expected  # the same scores and versions
    claimed = [cut.sessions_of(g.number) for g in found[1:]]
    assert claimed == [whole.sessions_of(g.number) for g in expected[1:]]
    assert sum(map(len, claimed)) == len({name for names in claimed for name in names})
    assert cut.ready() == 2  # the others wait
