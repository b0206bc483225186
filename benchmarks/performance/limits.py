"""What the hardware allows: operations and bytes per second, measured, and what a model needs."""

from collections.abc import Sequence

import torch
from benchmarks.performance.timing import timed
from transformers import PreTrainedModel

from steadyrl.policies.model_size import multiplied_weights

MATRIX = {"cpu": 1024, "cuda": 8192}
BYTES_COPIED = {"cpu": 2**28, "cuda": 2**32}
REPEATS = 20


def peak_operations(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product: two for each multiply-add."""
    size = MATRIX[device.type]
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def work() -> int:
        for _ in range(REPEATS):
            left @ right
        return 1

    timed(work, device)
    return REPEATS * 2 * size**3 / timed(work, device).seconds


def memory_bandwidth(device: torch.device) -> float:
    """Bytes per second that a large copy reads and writes."""
    source = torch.zeros(BYTES_COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def work() -> int:
        for _ in range(REPEATS):
            target.copy_(source)
        return 1

    timed(work, device)
    return REPEATS * 2 * len(source) / timed(work, device).seconds


def active_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """Weights that multiply each token in the trunk, and in the output head."""
    config = model.config.get_text_config()
    rest, experts, head = multiplied_weights(model)
    if not experts:
        return rest, head
    return rest + experts * config.num_experts_per_tok // config.num_experts, head


def update_operations(
    model: PreTrainedModel, lengths: torch.Tensor, repeated: torch.Tensor, response_tokens: int
) -> float:
    """Operations of a forward and a backward pass: 6 for each weight and token, and attention's.

    Args:
        repeated: How many tokens of each row are computed in another that begins alike.
    """
    config = model.config.get_text_config()
    trunk, head = active_parameters(model)
    width = config.num_attention_heads * config.head_dim * config.num_hidden_layers
    # Causal: half of the 2 x 2 operations for each pair of positions and each channel, three times.
    pairs = (lengths.double().square() - repeated.double().square()).sum().item()
    tokens = int((lengths - repeated).sum())
    return 6 * (trunk * tokens + head * response_tokens) + 6 * width * pairs


def rollout_operations(
    model: PreTrainedModel, prompts: Sequence[int], lengths: Sequence[Sequence[int]]
) -> float:
    """Operations of a rollout that computes each prompt once and each answer token once.

    Args:
        prompts: Tokens of each prompt.
        lengths: Tokens of each answer to it.
    """
    config = model.config.get_text_config()
    trunk, head = active_parameters(model)
    width = config.num_attention_heads * config.head_dim * config.num_hidden_layers
    tokens = sum(prompts) + sum(map(sum, lengths))
    # 2 x 2 operations for each channel of each pair of positions that attention joins.
    pairs = sum(
        prompt**2 / 2 + sum(n * (prompt + n / 2) for n in answers)
        for prompt, answers in zip(prompts, lengths, strict=True)
    )
    return 2 * (trunk * tokens + head * sum(map(sum, lengths))) + 4 * width * pairs


def rollout_bytes(
    model: PreTrainedModel, prompt: float, lengths: Sequence[int], *, running: int
) -> float:
    """Bytes read by the decoding steps of answers of these lengths, `running` at a time.

    A step reads every weight but the embedding's once. It cannot take fewer steps than the longest
    answer has tokens, nor than all tokens shared out over the running sequences.
    """
    config = model.config.get_text_config()
    size = next(model.parameters()).element_size()
    weights = size * sum(multiplied_weights(model))
    cached = 2 * size * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    steps = max(max(lengths), sum(lengths) / running)
    return steps * weights + sum(cached * n * (prompt + n / 2) for n in lengths)
