"""Loading user-defined objects by name: `module:name`."""

import importlib
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from steadyrl.base.errors import UserError, call_user_code, cause, is_user_file


def named_object(path: str, *, given_as: str) -> Any:
    """Imports and returns the object named by `path`, written `module:name`.

    Args:
        given_as: Name of the setting that holds the path, for error messages.

    Raises:
        UserError: the module cannot be imported or does not define the name.
    """
    module, _, name = path.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and module.startswith(error.name or module)
        reason = str(error) if missing else cause(error)
        raise UserError(
            f"{given_as} is {path!r}: {reason}. Install the package, or put the folder of the "
            "module on PYTHONPATH."
        ) from error
    except Exception as error:
        raise UserError(
            f"{given_as} is {path!r}, but importing {module} failed: {cause(error)}. Fix the "
            "module."
        ) from error
    if not hasattr(found, name):
        place = getattr(found, "__file__", module)
        raise UserError(
            f"{given_as} is {path!r}: {place} has no {name!r}. Correct the name, or check with "
            "PYTHONPATH that this is the module you mean."
        )
    return getattr(found, name)


def call_named(path: str, options: Mapping[str, Any], *, given_as: str) -> Any:
    """Calls the class or function named by `path` (`module:name`) with `options`.

    Args:
        given_as: Name of the setting that holds the path, for error messages.

    Raises:
        UserError: the object does not exist, does not accept the options, or raises.
    """
    maker = named_object(path, given_as=given_as)
    if not callable(maker):
        raise UserError(
            f"{path} is {maker!r:.200}, which is not callable. Name a class or a function."
        )
    try:
        signature(maker).bind(**options)
    except TypeError as error:
        raise UserError(
            f"{path} cannot be called with the options {dict(options)}: {error}. Pass the options "
            "that it accepts."
        ) from error
    except ValueError:
        pass  # a builtin without a signature: the call itself tells
    return call_user_code(
        partial(maker, **options),
        failure=f"{path} failed with the options {dict(options)}",
        remedy="Fix it, or pass other options.",
    )


def user_file(path: str) -> Path | None:
    """The user's own file that defines the object named by `path` (`module:name`).

    None for other texts, for modules that cannot be found, and for installed packages.
    """
    if not re.fullmatch(r"[\w.]+:\w+", path):
        return None
    with suppress(ImportError, ValueError):
        spec = find_spec(path.partition(":")[0])
        if spec is not None and spec.has_location and spec.origin and is_user_file(spec.origin):
            return Path(spec.origin)
    return None
