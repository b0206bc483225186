"""A checkpoint that tests read and never change."""

from pathlib import Path

import pytest

from steadyrl.training.checkpoint import save_checkpoint
from steadyrl.training.stage import RunPosition
from tests.learners.small import trained


@pytest.fixture(scope="package")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `trained()` after step 4 of stage 1."""
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "rl-000004"
    save_checkpoint(path, trained(), RunPosition(stage=1, step=4))
    return path
