"""Which part of a response is spoken: answers and actions inside thoughts do not count.

<think>maybe 3</think> It is 4.     ->  It is 4.
maybe 3</think> It is 4.            ->  It is 4.      (the chat template opened the thought)
<think>maybe 3                      ->                (the thought never ended)
"""

import re

_NAME = r"(?:think|thinking|thought|seed:think)"
_OPENED = re.compile(rf"<{_NAME}>|\[THINK\]", re.IGNORECASE)
_CLOSED = re.compile(rf"</{_NAME}>|\[/THINK\]", re.IGNORECASE)


def strip_thinking(text: str) -> str:
    """What follows the last closing tag of a thought, up to a thought that stays open.

    Every shipped environment reads responses through this one rule.
    """
    closed = [match.end() for match in _CLOSED.finditer(text)]
    spoken = text[closed[-1] :] if closed else text
    opened = _OPENED.search(spoken)
    return spoken[: opened.start()] if opened else spoken
