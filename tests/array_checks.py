"""Checks of arrays against their annotations, in functions of the package that tests call.

Only functions that take or return arrays are wrapped: to wrap them all, as jaxtyping's own import
hook does, doubles the time of the tests.
"""

import inspect
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped


def install(package: str) -> None:
    """Checks arrays in the modules of `package` that are imported from now on."""
    sys.meta_path.insert(0, _Finder(package))


class _Finder(PathFinder):
    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(  # type: ignore[override]
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of a module of the package, with a loader that adds the checks."""
        if name.partition(".")[0] != self._package:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        """Runs the module, and adds the checks to what it defines."""
        super().exec_module(module)
        for name, member in list(vars(module).items()):
            if getattr(member, "__module__", None) == module.__name__:
                if inspect.isclass(member):
                    _check_methods(member)
                elif inspect.isfunction(member) and _names_arrays(member):
                    setattr(module, name, jaxtyped(member, typechecker=beartype))


def _check_methods(cls: type) -> None:
    for name, member in list(vars(cls).items()):
        if _names_arrays(member):
            setattr(cls, name, jaxtyped(member, typechecker=beartype))


def _names_arrays(member: Any) -> bool:
    """Whether a function, a method of any kind or a property is annotated with arrays."""
    function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        return False
    if inspect.isgeneratorfunction(inspect.unwrap(function)):
        return False
    return any(map(_is_array, inspect.get_annotations(function).values()))


def _is_array(annotation: Any) -> bool:
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(map(_is_array, get_args(annotation)))
