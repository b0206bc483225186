"""Limits of the caches in which PyTorch keeps kernels of oneDNN."""

import os

CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""Environment variables, which are read when the first such kernel is made."""

KERNELS = 64
"""Kernels in each cache."""


def limit_kernel_caches() -> None:
    """Keeps at most 64 kernels in each cache, unless the environment says otherwise.

    On a CPU, products in bfloat16 have a kernel for each shape. By default 1,024 are kept, and the
    batches of a server or a training run have so many shapes that its memory grows by hundreds of
    MiB. To be called before the model is loaded: later it has less effect.
    """
    for name in CACHES:
        os.environ.setdefault(name, str(KERNELS))
