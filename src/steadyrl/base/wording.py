"""Human-readable numbers and durations."""

import math

MINUS = "\N{MINUS SIGN}"


def short_number(value: float) -> str:
    """`value` to three significant digits in the shortest form: 0.581, 12k, 3.4e-5."""
    if not math.isfinite(value):
        return {"inf": "∞", "-inf": f"{MINUS}∞"}.get(str(value), "not a number")
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    size = abs(rounded)
    if size < 1e-3 or size >= 1e9:
        digits, exponent = f"{rounded:.2e}".split("e")
        text = f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    elif size >= 1e6:
        text = f"{rounded / 1e6:.3g}M"
    elif size >= 1e4:
        text = f"{rounded / 1e3:.3g}k"
    else:
        text = f"{rounded:.4g}"
    return text.replace("-", MINUS)


def duration(seconds: float) -> str:
    """A time span in its two largest units: 1 h 12 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{short_number(seconds)} s"
    minutes, seconds_left = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {seconds_left} s"
    hours, minutes_left = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes_left} min"
    days, hours_left = divmod(hours, 24)
    return f"{days} days {hours_left} h"


def count(number: int, noun: str) -> str:
    """`number` followed by `noun` in the singular or plural."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def inside_sentence(title: str) -> str:
    """`title` with a lowercase first letter, for use inside a sentence."""
    return title[:1].lower() + title[1:]
