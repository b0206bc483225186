"""The memory of a run as a part of the page."""

import html
from collections.abc import Sequence

from steadyrl.base.wording import count
from steadyrl.report.html_text import shortened
from steadyrl.report.memory_record import Remembered, held

TEXTS_SHOWN = 8


def memory_section(writes: Sequence[Remembered]) -> str:
    """The HTML of what the memory holds and held; nothing when nothing was ever written."""
    if not writes:
        return ""
    present = sorted(held(writes).values(), key=lambda write: -write.step)
    shown = present[:TEXTS_SHOWN]
    held_now = {id(write) for write in present}
    earlier = [write for write in writes if id(write) not in held_now]
    newest = f", the newest {len(shown)} of them shown" if len(shown) < len(present) else ""
    lead = (
        f"It was written to {count(len(writes), 'time')}, first in step {writes[0].step} and last "
        f"in step {writes[-1].step}, and holds {count(len(present), 'text')}{newest}."
    )
    return (
        f'<section><h2>What it remembers</h2><p class="lead">{lead}</p>'
        f"{''.join([_text(write) for write in shown])}{_history(earlier)}</section>"
    )


def _history(earlier: Sequence[Remembered]) -> str:
    """Some of what was overwritten, evenly from the first to the last."""
    if not earlier:
        return ""
    many = min(TEXTS_SHOWN, len(earlier))
    places = sorted({place * (len(earlier) - 1) // max(1, many - 1) for place in range(many)})
    texts = "".join([_text(earlier[place]) for place in places])
    of = f"{len(places)} of {len(earlier):,}" if len(places) < len(earlier) else f"{len(places)}"
    return f"<details><summary>What it held before: {of}</summary>{texts}</details>"


def _text(write: Remembered) -> str:
    origin = f"Step {write.step} · slot {write.slot} · {write.task_id}"
    return (
        f'<div class="told"><span class="role">{html.escape(origin)}</span>'
        f"<pre>{shortened(write.text)}</pre></div>"
    )
