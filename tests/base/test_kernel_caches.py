"""Limits of oneDNN's caches."""

import os

import pytest

from steadyrl.base.kernel_caches import CACHES, limit_kernel_caches


def test_caches_are_limited_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = CACHES
    monkeypatch.setenv(first, "7")
    monkeypatch.setenv(second, "")  # so that it is restored
    monkeypatch.delenv(second)

    limit_kernel_caches()

    assert (os.environ[first], os.environ[second]) == ("7", "64")
