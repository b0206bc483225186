"""Objects of your own, by name: `module:name`."""

import importlib
from typing import Any

from steadyrl.base.errors import UserError, cause


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
