"""Text of unknown origin as text that every tokenizer and file takes; and what it may mean."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def well_formed(text: str) -> str:
    """`text` without half surrogates, which no tokenizer takes and no file can hold.

    JSON escapes, HTML and file names bring them in. Two halves that belong together become the
    character that they stand for, any other a question mark. All else stays as it is, NUL too.
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
    """`value`, as JSON can hold it, with every text in it changed, names of fields too."""
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
    """A sentence with the known name closest to `given`, or all of them after `heading`."""
    close = get_close_matches(given, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"{heading}: {', '.join(known)}"
