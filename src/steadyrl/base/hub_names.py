"""Names of repositories on the Hugging Face Hub."""

import re

_NAME = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?", re.ASCII)


def is_hub_name(path: str) -> bool:
    """Whether `path` can be the name of a repository, NAME or OWNER/NAME, rather than a path."""
    return _NAME.fullmatch(path) is not None
