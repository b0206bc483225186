"""The page of the library: what each package exports, with signatures and docstrings."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from textwrap import dedent, wrap
from types import ModuleType
from typing import Any

from docs.generator.markdown import WIDTH, page, paragraph
from pydantic import BaseModel

import steadyrl

ABOUT = """
What each package exports: the public names of the library. Everything else may change without
notice. A record or settings class is preceded by its call: what follows `*` is given by keyword.
"""


def api_page() -> str:
    """A section for each package, lower layers in the order of their names."""
    lines = ["# Library", "", paragraph(ABOUT)]
    for package in packages():
        names = getattr(package, "__all__", ())
        if names:
            lines += ["", f"## {package.__name__}", "", first_line(package)]
        for name in names:
            outlined = [*constructor(getattr(package, name)), *outline(package, name)]
            lines += ["", f"### {name}", "", "```python", *outlined, "```"]
    return page(lines)


def packages() -> Iterator[ModuleType]:
    """`steadyrl` and its packages."""
    yield steadyrl
    for module in pkgutil.walk_packages(steadyrl.__path__, "steadyrl."):
        if module.ispkg:
            yield importlib.import_module(module.name)


def first_line(package: ModuleType) -> str:
    """What the package is."""
    return (inspect.getdoc(package) or "").splitlines()[0]


def constructor(value: Any) -> list[str]:
    """The call that makes a record or settings object, and an empty line; nothing for others."""
    makes = inspect.isclass(value) and (is_dataclass(value) or issubclass(value, BaseModel))
    if not makes or inspect.isabstract(value):
        return []
    parameters, starred = list[str](), False
    for each in inspect.signature(value).parameters.values():
        if each.kind is each.KEYWORD_ONLY and not starred:
            parameters, starred = [*parameters, "*"], True
        parameters.append(each.name + _default(each.default))
    call = f"{value.__name__}({', '.join(parameters)})"
    return [*wrap(call, WIDTH, subsequent_indent="    ", break_long_words=False), ""]


def _default(value: Any) -> str:
    """The default of a parameter, if it is a plain value; dots stand for any other."""
    if value is inspect.Parameter.empty:
        return ""
    plain = value is None or isinstance(value, bool | int | float | str) or value == ()
    return f"={value!r}" if plain and not isinstance(value, Enum) else "=..."


def outline(package: ModuleType, name: str) -> list[str]:
    """The source of a public name without what it does: signature, fields and docstrings."""
    value = getattr(package, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return [f"{name}: {_kind(value)}"]
    lines = dedent(inspect.getsource(value)).splitlines()
    (node,) = ast.parse("\n".join(lines)).body
    return list(_outlined(node, lines))


def _kind(value: Any) -> str:
    return value.__name__ if inspect.ismodule(value) else type(value).__name__


def _outlined(node: ast.stmt, lines: list[str]) -> Iterator[str]:
    """A function or class with its docstring, and below a class its public fields and methods."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    first = node.body[0]
    decorators = getattr(first, "decorator_list", [])
    below = min([first.lineno, *(decorator.lineno for decorator in decorators)])
    yield from (line for line in lines[node.lineno - 1 : below - 1] if line.strip())
    if _is_text(first):
        yield from lines[first.lineno - 1 : first.end_lineno]
    if isinstance(node, ast.ClassDef):
        yield from _members(node, lines)
    elif not _is_text(first):
        yield f"{' ' * (node.col_offset + 4)}..."


def _members(node: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    documented = False
    for number, item in enumerate(node.body[1:] if _is_text(node.body[0]) else node.body):
        if isinstance(item, ast.AnnAssign | ast.Assign):
            target = item.target if isinstance(item, ast.AnnAssign) else item.targets[0]
            documented = not ast.unparse(target).startswith("_")
            if documented:
                yield from ([""] if number == 0 else [])
                yield from lines[item.lineno - 1 : item.end_lineno]
        elif _is_text(item) and documented:
            yield from lines[item.lineno - 1 : item.end_lineno]
            documented = False
        elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = False
            if not item.name.startswith("_") or item.name == "__init__":
                yield ""
                yield from (f"    @{ast.unparse(each)}" for each in item.decorator_list)
                yield from _outlined(item, lines)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
