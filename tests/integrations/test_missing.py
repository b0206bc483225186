"""Without TRL or verl, their integrations say how to install them."""

import importlib
from importlib.util import find_spec

import pytest

from steadyrl.base.errors import UserError


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("trl", r"supports TRL 1\.14 to 1\.16, got none\. Install one of them"),
        ("verl", r"supports verl 0\.9, got none\. Install it"),
    ],
)
def test_a_missing_package_is_told(package: str, message: str) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(UserError, match=message):
        importlib.import_module(f"steadyrl.integrations.{package}")
