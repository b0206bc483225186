"""Dumps as each framework writes them, from the same samples.

Each writer gives the files in the order in which `steadyrl compare-dumps` takes them: the engine's
and the trainer's, or one with both columns.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dump_world import Sample, Samples

PAD = 0

Writer = Callable[[Samples, Path], list[Path]]


def write_verl(samples: Samples, folder: Path) -> list[Path]:
    """The batch of a rollout, and the batch after old_log_probs: left and right padding."""
    engine = _verl(samples, [sample.prompt for sample in samples])
    experts = [sample.rollout_experts for sample in samples]
    width = engine["prompts"].shape[1]
    if all(route is not None for route in experts):
        engine["routed_experts"] = _left_aligned(experts, samples, width, engine["input_ids"].shape)
    engine["rollout_log_probs"] = _right([s.rollout_logprobs for s in samples])
    trainer = _verl(samples, [sample.trainer_prompt for sample in samples])
    trainer["old_log_probs"] = _right([s.trainer_logprobs for s in samples])
    trainer["entropys"] = _right([s.entropy for s in samples])
    return _saved(folder, rollout=engine, batch=trainer)


def _verl(samples: Samples, prompts: Sequence[tuple[int, ...]]) -> dict[str, torch.Tensor]:
    width = max(map(len, prompts))
    left = torch.tensor([[PAD] * (width - len(p)) + list(p) for p in prompts])
    held = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    responses = _right([np.array(s.response) for s in samples], dtype=torch.int64)
    length = responses.shape[1]
    own = torch.tensor([[1] * len(s.response) + [0] * (length - len(s.response)) for s in samples])
    return {
        "prompts": left,
        "responses": responses,
        "input_ids": torch.cat([left, responses], dim=1),
        "attention_mask": torch.cat([held, own], dim=1),
        "response_mask": _masks(samples, length),
    }


def _masks(samples: Samples, length: int) -> torch.Tensor:
    masks = np.zeros((len(samples), length), dtype=np.int64)
    for row, sample in enumerate(samples):
        masks[row, : min(length, len(sample.mask))] = sample.mask[:length]
    return torch.from_numpy(masks)


def _left_aligned(
    experts: Sequence[Any], samples: Samples, width: int, shape: Sequence[int]
) -> torch.Tensor:
    layers, chosen = experts[0].shape[1:]
    table = torch.zeros(*shape, layers, chosen, dtype=torch.int16)
    for row, (route, sample) in enumerate(zip(experts, samples, strict=True)):
        start = width - len(sample.prompt)
        table[row, start : start + len(route)] = torch.from_numpy(route.astype(np.int16))
    return table


def write_slime(samples: Samples, folder: Path) -> list[Path]:
    """A rollout dump and a train dump."""
    rollout = [
        {
            "index": number,
            "tokens": [*sample.prompt, *sample.response],
            "response_length": len(sample.response),
            "loss_mask": sample.mask.astype(int)[: len(sample.response)].tolist(),
            "rollout_log_probs": sample.rollout_logprobs.tolist(),
            "rollout_routed_experts": sample.rollout_experts,
            "status": "completed",
            "reward": 1.0,
            "metadata": {},
        }
        for number, sample in enumerate(samples)
    ]
    train = [
        {
            "rollout_position": number,
            "sample_index": number,
            "tokens": torch.tensor([*sample.trainer_prompt, *sample.response]),
            "total_lengths": len(sample.trainer_prompt) + len(sample.response),
            "response_lengths": len(sample.response),
            "loss_masks": torch.from_numpy(sample.mask.astype(int)[: len(sample.response)]),
            "log_probs": torch.from_numpy(sample.trainer_logprobs).float(),
        }
        for number, sample in enumerate(samples)
    ]
    return _saved(
        folder,
        rollout={"rollout_id": 0, "samples": rollout},
        train={"format_version": 2, "rollout_id": 0, "rank": 0, "samples": train},
    )


def write_trl(samples: Samples, folder: Path) -> list[Path]:
    """The output of `_generate_and_score_completions`."""
    verl = _verl(samples, [sample.trainer_prompt for sample in samples])
    width, length = verl["prompts"].shape[1], verl["responses"].shape[1]
    batch = {
        "prompt_ids": verl["prompts"],
        "prompt_mask": verl["attention_mask"][:, :width],
        "completion_ids": verl["responses"],
        "completion_mask": verl["attention_mask"][:, width:] | _masks(samples, length),
        "tool_mask": _masks(samples, length),
        "sampling_per_token_logps": _right([s.rollout_logprobs for s in samples]),
        "old_per_token_logps": _right([s.trainer_logprobs for s in samples]),
        "advantages": torch.zeros(len(samples)),
        "num_items_in_batch": 1,
    }
    return _saved(folder, batch=batch)


def write_openrlhf(samples: Samples, folder: Path) -> list[Path]:
    """The tensors of an `Experience`: masks and log-probabilities begin at the second token."""
    return _saved(
        folder,
        experience={
            "sequences": _right([_tokens(s) for s in samples], dtype=torch.int64),
            "attention_mask": _right([np.ones(len(_tokens(s))) for s in samples]).long(),
            "action_mask": _right([_whole(s, s.mask)[1:] for s in samples]).long(),
            "rollout_log_probs": _right([_whole(s, s.rollout_logprobs)[1:] for s in samples]),
            "action_log_probs": _right([_whole(s, s.trainer_logprobs)[1:] for s in samples]),
        },
    )


def write_prime_rl(samples: Samples, folder: Path) -> list[Path]:
    """Records of the trainer's token export, in which numbers that are not finite are null."""
    records = [
        {
            "schema_version": 1,
            "step": 0,
            "token_ids": _tokens(sample).tolist(),
            "position_ids": list(range(len(_tokens(sample)))),
            "loss_mask": [bool(value) for value in _whole(sample, sample.mask)],
            "inference_logprobs": _nullable(_whole(sample, sample.rollout_logprobs)),
            "trainer_logprobs": _nullable(_whole(sample, sample.trainer_logprobs)),
            "entropy": _nullable(_whole(sample, sample.entropy)),
        }
        for sample in samples
    ]
    return [_lines(folder / "step_0" / "rank_0.jsonl", records)]


def write_nemo_rl(samples: Samples, folder: Path) -> list[Path]:
    """Lines of train_data_step: batches of one row, padded on the right to the longest."""
    longest = max(len(_tokens(sample)) for sample in samples)

    def padded(values: np.ndarray) -> list[list[float]]:
        return [np.pad(values, (0, longest - len(values))).tolist()]

    records = [
        {
            "rewards": [1.0],
            "input_lengths": [len(sample.trainer_prompt) + len(sample.response)],
            "token_ids": padded(_tokens(sample)),
            "token_loss_mask": padded(_whole(sample, sample.mask).astype(int)),
            "sample_loss_mask": [1.0],
            "generation_logprobs": padded(_whole(sample, sample.rollout_logprobs)),
            "prev_logprobs": padded(_whole(sample, sample.trainer_logprobs)),
            "idx": number,
        }
        for number, sample in enumerate(samples)
    ]
    return [_lines(folder / "train_data_step1.jsonl", records)]


def write_own(samples: Samples, folder: Path) -> list[Path]:
    """Our own JSON Lines, one file for each side."""
    engine = [
        {
            "tokens": [*sample.prompt, *sample.response],
            "response_mask": sample.mask.astype(int)[: len(sample.response)].tolist(),
            "rollout_logprobs": sample.rollout_logprobs.tolist(),
            **_experts("routed_experts", sample.rollout_experts),
        }
        for sample in samples
    ]
    trainer = [
        {
            "tokens": [*sample.trainer_prompt, *sample.response],
            "response_mask": sample.mask.astype(int)[: len(sample.response)].tolist(),
            "trainer_logprobs": sample.trainer_logprobs.tolist(),
            "entropy": sample.entropy.tolist(),
            **_experts("trainer_experts", sample.trainer_experts),
        }
        for sample in samples
    ]
    return [_lines(folder / "engine.jsonl", engine), _lines(folder / "trainer.jsonl", trainer)]


def _experts(name: str, experts: Any) -> dict[str, Any]:
    return {} if experts is None else {name: experts.tolist()}


def _tokens(sample: Sample) -> np.ndarray:
    return np.array([*sample.trainer_prompt, *sample.response])


def _whole(sample: Sample, values: np.ndarray) -> np.ndarray:
    """Values of the response, behind zeros for the prompt."""
    return np.concatenate([np.zeros(len(sample.trainer_prompt)), np.asarray(values, dtype=float)])


def _right(values: Sequence[np.ndarray], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    rows = [torch.from_numpy(np.asarray(row)).to(dtype) for row in values]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


def _nullable(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _lines(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def _saved(folder: Path, **contents: dict[str, Any]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in contents.items():
        paths.append(folder / f"{name}.pt")
        torch.save(content, paths[-1])
    return paths


WRITERS: dict[str, Writer] = {
    "verl": write_verl,
    "slime": write_slime,
    "trl": write_trl,
    "openrlhf": write_openrlhf,
    "prime-rl": write_prime_rl,
    "nemo-rl": write_nemo_rl,
    "steadyrl": write_own,
}
"""By the name of the format."""
