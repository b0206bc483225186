"""Bodies of replies in OpenAI's schema."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from steadyrl.gateway.answers import Answer
from steadyrl.records.completion import FinishReason

Body = dict[str, Any]

PIECE = 64
"""Characters per chunk of a stream."""


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
                **_calls(answer, f"{index}"),
            },
            "logprobs": chat_logprobs(answer, tokenizer) if with_logprobs else None,
            "finish_reason": answer.finish_reason,
        }
        for index, answer in enumerate(answers)
    ]
    return {
        **_head("chatcmpl", "chat.completion", model),
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
            "logprobs": text_logprobs(answer, tokenizer) if with_logprobs else None,
            "finish_reason": answer.finish_reason,
        }
        for index, answer in enumerate(answers)
    ]
    return {**_head("cmpl", "text_completion", model), "choices": choices, "usage": usage(answers)}


def stream(body: Body, *, include_usage: bool) -> Iterator[str]:
    """The same reply as server-sent events."""
    is_chat = body["object"] == "chat.completion"
    kind = "chat.completion.chunk" if is_chat else body["object"]
    head = {**{name: body[name] for name in ("id", "created", "model")}, "object": kind}
    for choice in body["choices"]:
        parts = _chat_parts(choice) if is_chat else _text_parts(choice)
        for part in parts:
            yield _event({**head, "choices": [{"index": choice["index"], **part}]})
    if include_usage:
        yield _event({**head, "choices": [], "usage": body["usage"]})
    yield "data: [DONE]\n\n"


def chat_logprobs(answer: Answer, tokenizer: PreTrainedTokenizerBase) -> Body:
    """Log-probabilities of an answer's tokens, without its end token."""
    content = [
        {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
        for text, logprob in _scored(answer, tokenizer)
    ]
    return {"content": content, "refusal": None}


def text_logprobs(answer: Answer, tokenizer: PreTrainedTokenizerBase) -> Body:
    """The same in the older form."""
    scored = _scored(answer, tokenizer)
    offsets, place = [], 0
    for text, _ in scored:
        offsets.append(place)
        place += len(text)
    return {
        "tokens": [text for text, _ in scored],
        "token_logprobs": [logprob for _, logprob in scored],
        "top_logprobs": None,
        "text_offset": offsets,
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


def _head(prefix: str, kind: str, model: str) -> Body:
    name = f"{prefix}-{uuid.uuid4().hex}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": model}


def _calls(answer: Answer, prefix: str) -> Body:
    calls = [
        {
            "id": f"call_{prefix}_{number}_{uuid.uuid4().hex[:12]}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for number, call in enumerate(answer.reply.calls)
    ]
    return {"tool_calls": calls} if calls else {}


def _scored(answer: Answer, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, float]]:
    completion = answer.completion
    pairs = zip(completion.token_ids.tolist(), completion.logprobs.tolist(), strict=True)
    scored = [(tokenizer.decode([token]), logprob) for token, logprob in pairs]
    return scored[:-1] if completion.finish_reason is FinishReason.STOP else scored


def _chat_parts(choice: Body) -> Iterator[Body]:
    message, logprobs = choice["message"], choice["logprobs"]
    yield {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    for piece in pieces(message["content"] or ""):
        yield {"delta": {"content": piece}, "finish_reason": None}
    for number, call in enumerate(message.get("tool_calls", ())):
        yield {"delta": {"tool_calls": [{"index": number, **call}]}, "finish_reason": None}
    yield {"delta": {}, "logprobs": logprobs, "finish_reason": choice["finish_reason"]}


def _text_parts(choice: Body) -> Iterator[Body]:
    for piece in pieces(choice["text"]):
        yield {"text": piece, "logprobs": None, "finish_reason": None}
    yield {"text": "", "logprobs": choice["logprobs"], "finish_reason": choice["finish_reason"]}


def pieces(text: str) -> Iterator[str]:
    """The text in pieces of a stream."""
    for start in range(0, len(text), PIECE):
        yield text[start : start + PIECE]


def _event(body: Body) -> str:
    return f"data: {json.dumps(body)}\n\n"
