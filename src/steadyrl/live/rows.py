"""Rows of the store as records, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from steadyrl.live.records import Example, Generation, StoredTurn, Verdict
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.message import Message


def turn_values(turn: StoredTurn) -> dict[str, Any]:
    """Columns of a turn."""
    completion = turn.completion
    return {
        "messages": [[message.role, message.content] for message in turn.messages],
        "tokens": None if completion is None else _tokens(completion),
    }


def read_example(turn: Any, feedback: Sequence[Any]) -> Example:
    """The example of a row of `turns` and of the rows of its feedback, oldest first."""
    values = [row.value for row in feedback if row.value is not None]
    return Example(
        session=turn.session,
        turn=turn.number,
        messages=tuple(Message(role=role, content=text) for role, text in turn.messages),
        completion=None if turn.tokens is None else _completion(turn.tokens),
        reward=values[-1] if values else None,
        text="\n".join(row.text for row in feedback if row.text),
    )


def read_generation(row: Any) -> Generation:
    """The generation of a row of `generations`."""
    return Generation(
        number=row.number,
        verdict=Verdict(row.verdict),
        policy_version=row.policy_version,
        numbers=row.numbers,
    )


def _tokens(completion: Completion) -> dict[str, Any]:
    return {
        "prompt_ids": completion.prompt_ids.tolist(),
        "token_ids": completion.token_ids.tolist(),
        "logprobs": completion.logprobs.tolist(),
        "versions": completion.token_versions.tolist(),
        "finish_reason": completion.finish_reason.value,
    }


def _completion(tokens: Mapping[str, Any]) -> Completion:
    versions = torch.tensor(tokens["versions"], dtype=torch.long)
    return Completion(
        prompt_ids=torch.tensor(tokens["prompt_ids"], dtype=torch.long),
        token_ids=torch.tensor(tokens["token_ids"], dtype=torch.long),
        logprobs=torch.tensor(tokens["logprobs"], dtype=torch.float32),
        finish_reason=FinishReason(tokens["finish_reason"]),
        policy_version=int(versions[-1]) if len(versions) else 0,
        versions=versions,
    )
