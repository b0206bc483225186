"""Assignment of texts to splits: no text is in two splits."""

from hashlib import blake2b

from steadyrl.environments.protocol import Split

_DIGITS = 6


def split_of(text: str, held_out: float = 0.1) -> Split:
    """The split of `text`.

    It only depends on the text: a problem that is generated twice, by any seed, has the same split.

    Args:
        held_out: Share of all texts in validation, and in test. Six digits are significant.
    """
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "big") % 10**_DIGITS
    place = int(f"{number:0{_DIGITS}}"[::-1])  # a text's last digit decides between tenths
    share = round(held_out * 10**_DIGITS)
    if place >= 10**_DIGITS - share:
        return Split.TEST
    return Split.VALIDATION if place >= 10**_DIGITS - 2 * share else Split.TRAIN
