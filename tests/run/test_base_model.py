"""What is known of the model that a run began with."""

from pathlib import Path

import pytest

from steadyrl.run.base_model import BaseModel, base_model

LINK = "[org/base](https://huggingface.co/org/base)"


def pretrained(path: str, revision: str | None = None) -> dict[str, object]:
    return {"model": {"name": "pretrained", "path": path, "revision": revision}}


def test_a_name_on_the_hub_is_the_base_with_its_revision() -> None:
    assert base_model(pretrained("org/base", "v2"), license_name="mit") == BaseModel(
        name="org/base", license="mit", text=f"{LINK} at revision `v2`"
    )


@pytest.mark.parametrize("stated", [None, "org/base"])
def test_a_folder_has_no_name_unless_one_is_stated(tmp_path: Path, stated: str | None) -> None:
    found = base_model(pretrained(str(tmp_path / "mine")), name=stated)

    assert found.name == stated
    assert found.text == (LINK if stated else "the local checkpoint `mine`")
    assert found.license is None


def test_the_license_is_read_from_the_card_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Mine\n")

    assert base_model(pretrained(str(tmp_path))).license == "apache-2.0"
    assert base_model(pretrained(str(tmp_path)), license_name="mit").license == "mit"


def test_a_card_that_cannot_be_read_states_no_license(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")

    assert base_model(pretrained(str(tmp_path))).license is None


def test_random_weights_have_no_base() -> None:
    config = {"model": {"name": "small_moe", "layers": 1}}

    assert base_model(config) == BaseModel(
        name=None, license=None, text="none: a `small_moe` with random weights"
    )
    assert base_model(config, name="org/base").text == LINK
