"""Samples of a policy without a model: each text has random logits of its own."""

from functools import lru_cache
from typing import Any

import numpy as np
from dump_world import Sample, Samples

from steadyrl.analysis.dumps.layout import ragged_row, storage_of
from steadyrl.analysis.dumps.record import Pairing

VOCABULARY, END = 24, 1
LAYERS, EXPERTS = 2, 8
POLICY, OTHER_POLICY = 100, 101


TEXTS = 8192
"""Texts with logits of their own; a text has those of its hash."""


@lru_cache
def logits_of(policy: int) -> np.ndarray:
    """Logits of the token after each text: (texts, vocabulary)."""
    return 2.5 * np.random.default_rng(policy).standard_normal((TEXTS, VOCABULARY))


@lru_cache
def errors_of(seed: int) -> np.ndarray:
    """What rounding adds to the logits after each text, in units of its size."""
    return np.random.default_rng([seed, 7]).standard_normal((TEXTS, VOCABULARY))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def drawn(seed: int = 0, **settings: Any) -> Samples:
    """Samples of `draw`, in a list of their own."""
    return list(draw(seed, **settings))


@lru_cache
def draw(
    seed: int = 0,
    *,
    noise: float = 0.02,
    temperature: float = 1.0,
    top_p: float = 1.0,
    raw: bool = False,
    prompts: int = 8,
    group: int = 8,
    length: int = 20,
    trainer: int = POLICY,
    learned: tuple[float, ...] = (0.0,),
) -> tuple[Sample, ...]:
    """Responses drawn by an engine with noisy logits, scored by a trainer without noise.

    Args:
        raw: Whether the engine reports log-probabilities before temperature and top-p.
        trainer: Policy of the trainer; the engine's is `POLICY`.
        learned: What the trainer adds to the logits of each token, whatever the text.
    """
    generator = np.random.default_rng([seed, 5])
    first = [(0, *generator.integers(2, VOCABULARY, 4).tolist()) for _ in range(prompts)]
    texts = [prompt for prompt in first for _ in range(group)]
    columns: dict[str, list[np.ndarray]] = {"rollout": [], "trainer": [], "entropy": []}
    for _ in range(length):
        at = np.array([hash(text) % TEXTS for text in texts])
        noisy = logits_of(POLICY)[at] + noise * errors_of(seed)[at]
        drawing = _filtered(log_softmax(noisy / temperature), top_p)
        chances = np.exp(drawing).cumsum(axis=1)
        tokens = (chances > generator.random((len(texts), 1)) * chances[:, -1:]).argmax(axis=1)
        own = log_softmax(logits_of(trainer)[at] + np.array(learned))
        reported = log_softmax(noisy) if raw else drawing
        columns["rollout"].append(reported[np.arange(len(texts)), tokens])
        columns["trainer"].append(own[np.arange(len(texts)), tokens])
        columns["entropy"].append(-(np.exp(own) * own).sum(axis=1))
        texts = [(*text, token) for text, token in zip(texts, tokens.tolist(), strict=True)]
    values = {name: np.stack(parts, axis=1) for name, parts in columns.items()}
    return tuple(
        _sample(text, {name: rows[number] for name, rows in values.items()}, length)
        for number, text in enumerate(texts)
    )


def _sample(text: tuple[int, ...], values: dict[str, np.ndarray], length: int) -> Sample:
    """The sample of a text, cut after its end token."""
    prompt, drawn_tokens = text[:-length], text[-length:]
    end = drawn_tokens.index(END) + 1 if END in drawn_tokens else length
    fed = _experts()[np.array(text[: len(prompt) + end - 1])]
    return Sample(
        prompt=prompt,
        trainer_prompt=prompt,
        response=drawn_tokens[:end],
        mask=np.ones(end, dtype=bool),
        rollout_logprobs=values["rollout"][:end],
        trainer_logprobs=values["trainer"][:end],
        entropy=values["entropy"][:end],
        rollout_experts=fed,
        trainer_experts=fed,
    )


@lru_cache
def _experts() -> np.ndarray:
    """The experts of each token: (vocabulary, layers, experts per token)."""
    return np.random.default_rng(9).integers(0, EXPERTS, (VOCABULARY, LAYERS, 2))


def _filtered(logprobs: np.ndarray, top_p: float) -> np.ndarray:
    """The distributions of the likeliest tokens that reach `top_p`."""
    if top_p == 1:
        return logprobs
    order = np.argsort(-logprobs, axis=1)
    mass = np.exp(np.take_along_axis(logprobs, order, axis=1))
    kept = np.zeros_like(logprobs, dtype=bool)
    np.put_along_axis(kept, order, mass.cumsum(axis=1) - mass < top_p, axis=1)
    return log_softmax(np.where(kept, logprobs, -np.inf))


def pairing_of(samples: Samples, *, entropy: bool = True) -> Pairing:
    """The samples as they are after reading and pairing."""
    rows = []
    for sample in samples:
        start = len(sample.trainer_prompt)
        columns = {
            "rollout_logprobs": sample.rollout_logprobs,
            "trainer_logprobs": sample.trainer_logprobs,
            "entropy": sample.entropy if entropy else None,
            "rollout_experts": sample.rollout_experts if start == len(sample.prompt) else None,
            "trainer_experts": sample.trainer_experts if start == len(sample.prompt) else None,
        }
        rows.append(
            ragged_row(
                "a sample",
                tokens=[*sample.trainer_prompt, *sample.response],
                response_start=start,
                mask=sample.mask,
                columns=columns,
            )
        )
    return Pairing(
        rows=tuple(rows),
        engine_prompts=tuple(np.array(sample.prompt) for sample in samples),
        has_both_prompts=True,
        storage=storage_of([sample.rollout_logprobs for sample in samples]),
        has_mask=True,
    )
