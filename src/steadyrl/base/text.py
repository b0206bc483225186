"""Cleaning of untrusted text, and suggestions for misspelled names."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def well_formed(text: str) -> str:
    """`text` without lone surrogates, which tokenizers reject and UTF-8 files cannot hold.

    They come from JSON escapes, HTML and file names. A surrogate pair becomes the character that it
    encodes; a lone surrogate becomes a question mark. Everything else is kept, including NUL.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = _PAIR.sub(
            lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text
        )
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The JSON value `value` with `change` applied to every string, including keys."""
    match value:
        case str():
            return change(value)
        case dict():
            return {map_texts(name, change): map_texts(v, change) for name, v in value.items()}
        case list() | tuple():
            return [map_texts(item, change) for item in value]
        case _:
            return value


def nearest_or_all(given: str, known: Sequence[str], heading: str) -> str:
    """A sentence that suggests the known name closest to `given`, or lists all known names."""
    close = get_close_matches(given, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"{heading}: {', '.join(known)}."
