"""Bodies of `/v1/responses` in OpenAI's schema, whole and as events."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedTokenizerBase

from steadyrl.base.text import map_texts, well_formed
from steadyrl.gateway.answers import Answer
from steadyrl.gateway.replies import Body, chat_logprobs, pieces
from steadyrl.gateway.responses import ResponsesRequest


def response_body(
    answer: Answer,
    tokenizer: PreTrainedTokenizerBase,
    request: ResponsesRequest,
) -> Body:
    """The reply to `/v1/responses`."""
    is_cut = answer.finish_reason == "length"
    status = "incomplete" if is_cut else "completed"
    scored = chat_logprobs(answer, tokenizer)["content"] if request.with_logprobs else []
    prompt, completion = len(answer.completion.prompt_ids), len(answer.completion.token_ids)
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "instructions": _echo(request.instructions),
        "max_output_tokens": request.max_output_tokens,
        "metadata": {},
        "model": request.model,
        "output": _output(answer, scored, status),
        "parallel_tool_calls": True,
        "previous_response_id": request.previous_response_id,
        "temperature": request.temperature,
        "tool_choice": request.tool_choice or "auto",
        "tools": _echo([tool.model_dump() for tool in request.tools or ()]),
        "top_p": request.top_p,
        "truncation": "disabled",
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        },
    }


def response_events(body: Body) -> Iterator[str]:
    """The same reply as server-sent events."""
    pending = {**body, "status": "in_progress", "output": [], "usage": None}
    pending["incomplete_details"] = None
    for number, event in enumerate(_events(body, pending)):
        numbered = {**event, "sequence_number": number}
        yield f"event: {event['type']}\ndata: {json.dumps(numbered)}\n\n"


def _echo(value: Any) -> Any:
    """A value of the request as a reply can have it: strict JSON in well-formed text."""
    return map_texts(json.loads(json.dumps(value), parse_constant=str), well_formed)


def _output(answer: Answer, logprobs: list[Body], status: str) -> list[Body]:
    """The text, unless there are only calls, and the calls."""
    items: list[Body] = []
    if answer.reply.text or not answer.reply.calls:
        text = {
            "type": "output_text",
            "text": answer.reply.text,
            "annotations": [],
            "logprobs": logprobs,
        }
        items.append(
            {
                "id": f"msg_{uuid.uuid4().hex}",
                "type": "message",
                "role": "assistant",
                "status": status,
                "content": [text],
            }
        )
    items += [
        {
            "id": f"fc_{uuid.uuid4().hex}",
            "type": "function_call",
            "call_id": f"call_{uuid.uuid4().hex}",
            "name": call.name,
            "arguments": call.arguments,
            "status": "completed",
        }
        for call in answer.reply.calls
    ]
    return items


def _events(body: Body, pending: Body) -> Iterator[Body]:
    yield {"type": "response.created", "response": pending}
    yield {"type": "response.in_progress", "response": pending}
    for index, item in enumerate(body["output"]):
        empty: Body = {"content": []} if item["type"] == "message" else {"arguments": ""}
        begun = {**item, "status": "in_progress", **empty}
        yield {"type": "response.output_item.added", "output_index": index, "item": begun}
        events = _text_events if item["type"] == "message" else _call_events
        for event in events(item):
            yield {**event, "output_index": index, "item_id": item["id"]}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{body['status']}", "response": body}


def _text_events(item: Body) -> Iterator[Body]:
    (part,) = item["content"]
    place = {"content_index": 0}
    yield {
        "type": "response.content_part.added",
        **place,
        "part": {**part, "text": "", "logprobs": []},
    }
    for piece in pieces(part["text"]):
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
    logprobs = [_without_bytes(scored) for scored in part["logprobs"]]
    yield {
        "type": "response.output_text.done",
        **place,
        "text": part["text"],
        "logprobs": logprobs,
    }
    yield {"type": "response.content_part.done", **place, "part": part}


def _without_bytes(scored: Body) -> dict[str, Any]:
    return {"token": scored["token"], "logprob": scored["logprob"], "top_logprobs": []}


def _call_events(item: Body) -> Iterator[Body]:
    for piece in pieces(item["arguments"]):
        yield {"type": "response.function_call_arguments.delta", "delta": piece}
    yield {
        "type": "response.function_call_arguments.done",
        "name": item["name"],
        "arguments": item["arguments"],
    }
