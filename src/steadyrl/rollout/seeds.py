"""Random seeds as a function of what they are for, so that no generator has a state to save."""

import numpy as np


def derive_seed(root: int, *path: int) -> int:
    """A 63-bit seed for the place `path` under `root`: equal for equal places, independent else.

    Example:
        derive_seed(config_seed, step, prompt)
    """
    state = np.random.SeedSequence(entropy=root, spawn_key=path).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
