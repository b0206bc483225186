"""Objects of your own, by name: `module:name`."""

import importlib
from collections.abc import Mapping
from functools import partial
from inspect import signature
from typing import Any

from steadyrl.base.errors import UserError, answer_of, cause


def named_object(path: str, *, given_as: str) -> Any:
    """What `path`, a `module:name`, stands for.

    Args:
        given_as: What the path was given as, for the message.

    Raises:
        UserError: the module cannot be imported, or has nothing of that name.
    """
    module, _, name = path.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{given_as} is {path!r}: {error}. Install the package, or put the folder of the "
            "module on PYTHONPATH."
        ) from error
    except Exception as error:
        raise UserError(
            f"{given_as} is {path!r}, and importing {module} failed: {cause(error)}. Correct it."
        ) from error
    if not hasattr(found, name):
        raise UserError(
            f"{given_as} is {path!r}: {found.__file__} has no {name!r}. Correct the name, or see "
            "that this is the module you mean: PYTHONPATH says where modules are looked for."
        )
    return getattr(found, name)


def call_named(path: str, options: Mapping[str, Any], *, given_as: str) -> Any:
    """What the class or function `path`, a `module:name`, makes of `options`.

    Args:
        given_as: What the path was given as, for the message.

    Raises:
        UserError: there is nothing of that name, it does not take the options, or it fails.
    """
    maker = named_object(path, given_as=given_as)
    if not callable(maker):
        raise UserError(
            f"{path} is {maker!r:.200}, which cannot be called. Name a class or a function."
        )
    try:
        signature(maker).bind(**options)
    except TypeError as error:
        raise UserError(
            f"{path} cannot be called with the options {dict(options)}: {error}. Give those that "
            "it takes."
        ) from error
    return answer_of(
        partial(maker, **options),
        failure=f"{path} failed with the options {dict(options)}",
        remedy="Correct it, or give other options.",
    )
