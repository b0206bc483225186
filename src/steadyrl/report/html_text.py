"""Texts of unknown origin, and rewards, as HTML."""

import html

CHARACTERS_SHOWN = 4000
"""Of one text; of a longer one the middle is left out."""


def shortened(text: str) -> str:
    """`text` escaped, its middle left out where it is long."""
    left_out = len(text) - CHARACTERS_SHOWN
    if left_out <= 0:
        return html.escape(text)
    half = CHARACTERS_SHOWN // 2
    gap = f"\n\n[… {left_out:,} characters left out …]\n\n"
    return html.escape(text[:half] + gap + text[-half:])


def mark(reward: float) -> tuple[str, str]:
    """The style and the words for a reward: 1 is right, 0 is wrong, in between is partly right."""
    if reward >= 1:
        return "right", "✓ right"
    return ("partly", "◐ partly right") if reward > 0 else ("wrong", "✗ wrong")
