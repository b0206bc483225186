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


@lru_cache(maxsize=100_000)
def logits_of(policy: int, text: tuple[int, ...]) -> np.ndarray:
    """Logits of the token after a text."""
    return 2.5 * np.random.default_rng([policy, *text]).standard_normal(VOCABULARY)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits)


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
    experts = np.random.default_rng(9).integers(0, EXPERTS, (VOCABULARY, LAYERS, 2))
    samples = []
    for _ in range(prompts):
        prompt = (0, *generator.integers(2, VOCABULARY, 4).tolist())
        for _ in range(group):
            text, rollout, scores, entropy = prompt, [], [], []
            while len(rollout) < length and (not rollout or text[-1] != END):
                exact = logits_of(POLICY, text)
                error = np.random.default_rng([seed, 7, *text]).standard_normal(VOCABULARY)
                noisy = exact + noise * error
                drawing = _filtered(log_softmax(noisy / temperature), top_p)
                token = int(generator.choice(VOCABULARY, p=np.exp(drawing)))
                own = log_softmax(logits_of(trainer, text) + np.array(learned))
                rollout.append((log_softmax(noisy) if raw else drawing)[token])
                scores.append(own[token])
                entropy.append(-(np.exp(own) * own).sum())
                text = (*text, token)
            fed = experts[np.array(text[:-1])]
            samples.append(
                Sample(
                    prompt=prompt,
                    trainer_prompt=prompt,
                    response=text[len(prompt) :],
                    mask=np.ones(len(rollout), dtype=bool),
                    rollout_logprobs=np.array(rollout),
                    trainer_logprobs=np.array(scores),
                    entropy=np.array(entropy),
                    rollout_experts=fed,
                    trainer_experts=fed,
                )
            )
    return tuple(samples)


def _filtered(logprobs: np.ndarray, top_p: float) -> np.ndarray:
    """The distribution of the likeliest tokens that reach `top_p`."""
    if top_p == 1:
        return logprobs
    order = np.argsort(-logprobs)
    mass = np.exp(logprobs[order])
    kept = order[np.cumsum(mass) - mass < top_p]
    masked = np.full_like(logprobs, -np.inf)
    masked[kept] = logprobs[kept]
    return masked - np.log(np.exp(masked).sum())


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
        storage=storage_of([sample.rollout_logprobs for sample in samples]),
        has_mask=True,
    )
