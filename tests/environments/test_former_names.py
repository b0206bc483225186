"""Names of earlier versions are refused where they would be ignored."""

import sys
from pathlib import Path

import pytest

from steadyrl.base.errors import UserError
from steadyrl.environments.custom import CustomSettings
from steadyrl.environments.former_names import refuse_former_names
from steadyrl.environments.settings import EnvironmentSettings
from steadyrl.run.components import Components
from tests.run.tiny import tiny_run

TASKS = """
from steadyrl.environments import Task

class Tasks:
    def task(self, split, index):
        return Task(id="a", prompt=(), payload=None)

    def start(self, task):
        raise NotImplementedError

    def {method}(self, task, text):
        return task
"""


@pytest.mark.parametrize(("method", "refused"), [("guided", True), ("guide", False)])
def test_an_environment_that_would_not_be_guided_is_refused(
    method: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "guided_tasks.py").write_text(TASKS.format(method=method))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "guided_tasks", raising=False)
    settings = CustomSettings(name="guided_tasks:Tasks")
    if not refused:
        assert settings.make()
        return
    with pytest.raises(UserError, match=r"^Tasks defines 'guided', which is called 'guide' now"):
        settings.make()


class LongSettings(EnvironmentSettings):
    """Settings that say the number of turns under its former name."""

    name: str = "long"

    @property
    def longest_episode(self) -> int:
        return 3

    def make(self) -> None:  # type: ignore[override]
        raise AssertionError("it was made")


def test_settings_whose_turns_would_not_be_read_are_refused() -> None:
    config = tiny_run().model_copy(update={"environment": LongSettings()})
    with pytest.raises(UserError, match="LongSettings defines 'longest_episode', which is called"):
        Components.load(config)


def test_an_attribute_is_the_environment_s_own_affair() -> None:
    class Tasks:
        def __init__(self) -> None:
            self.guided = True

    refuse_former_names(Tasks())
