"""Random seeds as functions of their purpose, so that no generator state must be saved."""

import numpy as np


def derive_seed(root: int, *path: int) -> int:
    """A 63-bit seed for `path` under `root`: equal for equal paths, otherwise independent.

    Example:
        derive_seed(config_seed, step, prompt)
    """
    state = np.random.SeedSequence(entropy=root, spawn_key=path).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
