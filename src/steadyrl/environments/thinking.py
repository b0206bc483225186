"""Removal of thinking: answers and actions inside thinking blocks do not count.

<think>maybe 3</think> It is 4.     ->  It is 4.
maybe 3</think> It is 4.            ->  It is 4.      (opened by the chat template)
<think>maybe 3                      ->                (never closed)
"""

import re

_NAME = r"(?:think|thinking|thought|seed:think)"
_OPENED = re.compile(rf"<{_NAME}>|\[THINK\]", re.IGNORECASE)
_CLOSED = re.compile(rf"</{_NAME}>|\[/THINK\]", re.IGNORECASE)


def strip_thinking(text: str) -> str:
    """Text after the last closed thinking block, up to an unclosed one.

    All built-in environments read responses through this function.
    """
    closed = [match.end() for match in _CLOSED.finditer(text)]
    spoken = text[closed[-1] :] if closed else text
    opened = _OPENED.search(spoken)
    return spoken[: opened.start()] if opened else spoken
