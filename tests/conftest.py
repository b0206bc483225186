"""Threads as the environment says or one, no network, and small models that many tests share."""

import os
import sys
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch

from tests import array_checks

array_checks.install("steadyrl")

from steadyrl.policies.loading import load_model, load_tokenizer
from steadyrl.policies.model_settings import SmallDense, SmallMoE
from steadyrl.policies.policy import Policy

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def forget_modules_of_users() -> Iterator[None]:
    """Lets no test import the `my_tasks` that another one has written."""
    yield
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


@pytest.fixture
def moe_policy() -> Policy:
    """A Mixture-of-Experts policy of two layers with random weights."""
    settings = SmallMoE(layers=2, width=32, heads=2, kv_heads=1, expert_width=16)
    tokenizer = load_tokenizer(settings)
    return Policy(load_model(settings, tokenizer=tokenizer, seed=1), tokenizer)


@pytest.fixture
def dense_policy() -> Policy:
    """Its dense twin."""
    settings = SmallDense(layers=2, width=32, heads=2, kv_heads=1, mlp_width=32)
    tokenizer = load_tokenizer(settings)
    return Policy(load_model(settings, tokenizer=tokenizer, seed=1), tokenizer)
