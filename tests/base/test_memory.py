"""Free memory on the host and within a container's limit."""

from pathlib import Path

import psutil
import pytest
import torch

from steadyrl.base.memory import available_memory, container_memory

MIB = 1 << 20


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    (tmp_path / "memory.max").write_text(f"{100 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{60 * MIB}\n")
    return tmp_path


def test_a_container_leaves_its_limit_less_what_is_used(version_2: Path) -> None:
    assert container_memory(version_2) == 40 * MIB


def test_pages_of_files_that_can_be_dropped_are_free(version_2: Path) -> None:
    (version_2 / "memory.stat").write_text(f"anon 7\ninactive_file {10 * MIB}\nslab 3\n")

    assert container_memory(version_2) == 50 * MIB


def test_the_first_version_of_cgroups_has_other_files(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(str(9 * MIB))
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text(str(10 * MIB))

    assert container_memory(tmp_path) == 0


def test_without_a_limit_the_host_decides(version_2: Path) -> None:
    (version_2 / "memory.max").write_text("max\n")

    assert container_memory(version_2) is None
    free = available_memory(torch.device("cpu"), version_2)
    assert 0 < free <= psutil.virtual_memory().total


def test_the_smaller_of_the_two_counts(version_2: Path) -> None:
    assert available_memory(torch.device("cpu"), version_2) == 40 * MIB
