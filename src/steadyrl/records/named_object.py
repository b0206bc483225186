"""Objects of your own, by name: `module:name`."""

import importlib
from typing import Any

from steadyrl.records.errors import UserError


def named_object(path: str, *, given_as: str) -> Any:
    """What `path`, a `module:name`, stands for.

    Args:
        given_as: What the path was given as, for the message.

    Raises:
        UserError: the module cannot be imported, or has nothing of that name.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{given_as} is {path!r}: {error}. Install the package, or put the folder of the "
            "module on PYTHONPATH."
        ) from error
