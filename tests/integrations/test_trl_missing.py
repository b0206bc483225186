"""Without TRL, its integration says how to install it."""

import importlib
from importlib.util import find_spec

import pytest

from steadyrl.base.errors import UserError


@pytest.mark.skipif(find_spec("trl") is not None, reason="TRL is installed")
def test_a_missing_package_is_told() -> None:
    with pytest.raises(UserError, match=r"supports TRL 1\.16, got none\. Install it"):
        importlib.import_module("steadyrl.integrations.trl")
