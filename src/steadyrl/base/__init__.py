"""Utilities for every layer: errors, settings, locks, HTTP and calls into user code."""

from steadyrl.base.errors import NonFiniteError, UserError
from steadyrl.base.settings import Settings
from steadyrl.base.variants import Variant

__all__ = [
    "NonFiniteError",
    "Settings",
    "UserError",
    "Variant",
]
