"""The configuration that the documentation shows is valid, and survives its file."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from steadyrl.live.settings import LiveConfig, read_live_config, write_live_config
from steadyrl.objectives import MiniRL
from tests.live.sessions import tiny_live

PAGE = Path(__file__).parents[2] / "docs" / "live.md"


def test_the_documented_configuration_is_valid() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

    config = LiveConfig.model_validate(yaml.safe_load(block))

    assert config.sessions == 64
    assert config.redact == "my_hooks:redact"


def test_a_configuration_survives_its_file(tmp_path: Path) -> None:
    config = tiny_live(tmp_path, settle=5.0)
    file = tmp_path / "live.yaml"
    file.write_text(write_live_config(config))

    found = read_live_config(file)

    assert found.model_dump(mode="json") == config.model_dump(mode="json")


class ReadsTwo(MiniRL):
    """MiniRL with more to read."""

    name: str = ""
    reads_candidates = 2


def test_what_is_not_stored_is_not_read(tmp_path: Path) -> None:
    config = tiny_live(tmp_path)
    algorithm = config.run.algorithm.model_copy(update={"objective": ReadsTwo()})
    values = config.model_dump()
    values["run"]["algorithm"] = algorithm.model_dump()
    with pytest.raises(ValidationError, match=r"reads candidates, which the live loop does not"):
        LiveConfig.model_validate(values)
