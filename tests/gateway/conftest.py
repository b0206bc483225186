"""Leaves the tests out where the server or its official client is not installed."""

from importlib.util import find_spec

if any(find_spec(module) is None for module in ("openai", "starlette", "uvicorn")):
    collect_ignore_glob = ["test_*.py"]
