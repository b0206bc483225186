"""Parsing of vLLM's outputs: objects in this process, JSON from a server."""

import base64
import io
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.engines.answers import EngineOutputError, check_finite
from steadyrl.engines.protocol import SampledToken, TokenListener
from steadyrl.records.candidates import Candidates


def decode_routes(text: str | None) -> np.ndarray | None:
    """Array encoded in a server's `routed_experts`: base64 of a `.npy` file.

    Raises:
        EngineOutputError: `text` has another format.
    """
    if text is None:
        return None
    try:
        return np.load(io.BytesIO(base64.b64decode(text, validate=True)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise EngineOutputError(f"The engine returned unreadable routes: {error}.") from error


def sampled_logprobs(token_ids: Sequence[int], logprobs: Any) -> list[float]:
    """Log-probability of each sampled token, from vLLM's list of mappings to `Logprob`."""
    entries = [] if logprobs is None else logprobs
    return [float(entry[token].logprob) for entry, token in zip(entries, token_ids, strict=False)]


def likely_tokens(logprobs: Any, count: int) -> Candidates:
    """The `count` most probable tokens in place of each sampled one, from the same list.

    Raises:
        EngineOutputError: there are fewer.
    """
    places = [sorted(entry.items(), key=lambda each: each[1].rank)[:count] for entry in logprobs]
    if any(len(place) < count for place in places):
        raise EngineOutputError(
            f"The engine returned {min(map(len, places))} most probable tokens instead of {count}."
        )
    return Candidates(
        ids=torch.tensor([[token for token, _ in place] for place in places], dtype=torch.int32),
        logprobs=torch.tensor([[each.logprob for _, each in place] for place in places]),
    )


@dataclass(slots=True, kw_only=True)
class TokenReports:
    """Reports the tokens that each output has more than the one before."""

    sample: int
    listener: TokenListener
    end_token_ids: Set[int]
    reported: int = 0

    def __call__(self, output: Any) -> None:
        """Takes an output with all tokens so far. One with fewer is of an answer that restarted."""
        written = output.outputs[0]
        first = self.reported if len(written.token_ids) > self.reported else 0
        self.reported = len(written.token_ids)
        tokens = list(written.token_ids[first:])
        logprobs = sampled_logprobs(tokens, (written.logprobs or ())[first:])
        for position, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True), first):
            if token not in self.end_token_ids:
                self.listener(
                    SampledToken(
                        sample=self.sample, position=position, token_id=token, logprob=logprob
                    )
                )


def prompt_scores(
    tokens: Int[Tensor, " T"], entries: Sequence[Mapping[Any, Any] | None] | None
) -> Float[Tensor, " T"]:
    """Log-probability of each prompt token, 0 for the first, from vLLM's `prompt_logprobs`.

    In JSON, token ids are strings and each `Logprob` is a mapping.

    Raises:
        EngineOutputError: a log-probability is missing or not finite.
    """
    if entries is None or len(entries) != len(tokens):
        found = "no scores" if entries is None else f"{len(entries)} scores"
        raise EngineOutputError(f"The engine returned {found} for {len(tokens)} prompt tokens.")
    scores = [0.0]
    for token, entry in zip(tokens.tolist()[1:], entries[1:], strict=True):
        found_entry = None if entry is None else entry.get(token, entry.get(str(token)))
        if found_entry is None:
            raise EngineOutputError(f"The engine returned no score for prompt token {token}.")
        value = found_entry["logprob"] if isinstance(found_entry, Mapping) else found_entry.logprob
        scores.append(float(value))
    result = torch.tensor(scores)
    check_finite(result)
    return result
