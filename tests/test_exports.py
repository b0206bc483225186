"""Every name that a package exports can be imported from it."""

import subprocess
import sys
from importlib import import_module

import pytest
from docs.generator.api import packages

EXPORTING = [package.__name__ for package in packages() if hasattr(package, "__all__")]


@pytest.mark.parametrize("package", EXPORTING)
def test_every_exported_name_can_be_imported(package: str) -> None:
    module = import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_an_unknown_name_of_a_lazy_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'steadyrl\.records' has no attribute 'Grop'"):
        import_module("steadyrl.records").Grop  # noqa: B018


def test_what_commands_read_loads_without_pytorch() -> None:
    light = "steadyrl.cli.options, steadyrl.records, steadyrl.environments, steadyrl.report"
    code = f"import sys, {light}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
