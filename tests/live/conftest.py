"""Leaves the tests out where the store or the server is not installed."""

from importlib.util import find_spec

if any(find_spec(module) is None for module in ("sqlalchemy", "starlette", "uvicorn")):
    collect_ignore_glob = ["test_*.py"]
