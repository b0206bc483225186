"""Rulebooks of drills: pairs of a symbol or word and what it means, between spaces."""

import numpy as np

UNKNOWN = "?"


def completed(rulebook: str, memory: str) -> str:
    """`rulebook`, whose unknown pairs are those of `memory` where it has them."""
    known = {pair[0]: pair for pair in memory.split()}
    pairs = [known.get(p[0], p) if p[1] == UNKNOWN else p for p in rulebook.split()]
    return " ".join(pairs)


def partly_known(rulebook: str, hidden_pairs: float, generator: np.random.Generator) -> str:
    """`rulebook`, in which each pair is unknown with the probability `hidden_pairs`."""
    pairs = rulebook.split()
    hidden = generator.random(len(pairs)) < hidden_pairs
    return " ".join(
        pair[0] + UNKNOWN if out else pair for pair, out in zip(pairs, hidden, strict=True)
    )
