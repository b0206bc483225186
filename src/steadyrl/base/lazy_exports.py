"""Names that a package exports without importing their modules beforehand."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` that imports the module of a name when the name is first used.

    Packages whose light modules serve commands that load without PyTorch export by it what needs
    PyTorch.

    Args:
        modules: Module of each name, relative to `package`.

    Example:
        __getattr__ = lazy_exports(__name__, {"Group": "trajectory"})
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return get
