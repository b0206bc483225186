"""Bodies of replies in OpenAI's schema."""

import time
import uuid
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from transformers import PreTrainedTokenizerBase

from steadyrl.gateway.answers import Answer, scored_tokens

Body = dict[str, Any]


def chat_body(
    answers: Sequence[Answer],
    tokenizer: PreTrainedTokenizerBase,
    *,
    model: str,
    with_logprobs: bool,
) -> Body:
    """The reply to `/v1/chat/completions`."""
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": answer.reply.text
                if answer.reply.text or not answer.reply.calls
                else None,
                **({"tool_calls": tool_calls(answer, index)} if answer.reply.calls else {}),
            },
            "logprobs": chat_logprobs(scored_tokens(answer), tokenizer) if with_logprobs else None,
            "finish_reason": answer.finish_reason,
        }
        for index, answer in enumerate(answers)
    ]
    return {
        **head("chatcmpl", "chat.completion", model),
        "choices": choices,
        "usage": usage(answers),
    }


def text_body(
    answers: Sequence[Answer],
    tokenizer: PreTrainedTokenizerBase,
    *,
    model: str,
    with_logprobs: bool,
) -> Body:
    """The reply to `/v1/completions`."""
    choices = [
        {
            "index": index,
            "text": answer.text,
            "logprobs": text_logprobs(scored_tokens(answer), tokenizer) if with_logprobs else None,
            "finish_reason": answer.finish_reason,
        }
        for index, answer in enumerate(answers)
    ]
    return {**head("cmpl", "text_completion", model), "choices": choices, "usage": usage(answers)}


def chat_logprobs(scored: Iterable[tuple[int, float]], tokenizer: PreTrainedTokenizerBase) -> Body:
    """Log-probabilities of tokens."""
    content = [
        {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
        for text, logprob in _as_text(scored, tokenizer)
    ]
    return {"content": content, "refusal": None}


def text_logprobs(
    scored: Iterable[tuple[int, float]], tokenizer: PreTrainedTokenizerBase, *, offset: int = 0
) -> Body:
    """The same in the older form.

    Args:
        offset: Number of characters of the tokens before them.
    """
    pairs = _as_text(scored, tokenizer)
    ends = accumulate((len(text) for text, _ in pairs), initial=offset)
    return {
        "tokens": [text for text, _ in pairs],
        "token_logprobs": [logprob for _, logprob in pairs],
        "top_logprobs": None,
        "text_offset": list(ends)[:-1],
    }


def usage(answers: Sequence[Answer]) -> Body:
    """Numbers of tokens."""
    prompt = len(answers[0].completion.prompt_ids)
    completion = sum(len(answer.completion.token_ids) for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def head(prefix: str, kind: str, model: str) -> Body:
    """What a body or chunk begins with."""
    name = f"{prefix}-{uuid.uuid4().hex}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": model}


def tool_calls(answer: Answer, index: int) -> list[Body]:
    """The calls in answer number `index`."""
    return [
        {
            "id": f"call_{index}_{number}_{uuid.uuid4().hex[:12]}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for number, call in enumerate(answer.reply.calls)
    ]


def _as_text(
    scored: Iterable[tuple[int, float]], tokenizer: PreTrainedTokenizerBase
) -> list[tuple[str, float]]:
    return [(tokenizer.decode([token]), logprob) for token, logprob in scored]
