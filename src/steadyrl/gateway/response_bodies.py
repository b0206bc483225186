"""Bodies of `/v1/responses` in OpenAI's schema, whole and as events."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from steadyrl.base.text import map_texts, well_formed
from steadyrl.gateway.answers import Answer, scored_tokens
from steadyrl.gateway.errors import ApiError
from steadyrl.gateway.live_answers import Piece
from steadyrl.gateway.replies import Body, chat_logprobs
from steadyrl.gateway.responses import ResponsesRequest
from steadyrl.gateway.streams import event, in_chunks


class ResponseReply:
    """The reply to a request of `/v1/responses`."""

    def __init__(self, request: ResponsesRequest, tokenizer: PreTrainedTokenizerBase) -> None:
        self.id = f"resp_{uuid.uuid4().hex}"
        self.message_id = f"msg_{uuid.uuid4().hex}"
        self._request = request
        self._tokenizer = tokenizer
        self._created_at = int(time.time())

    def pending(self) -> Body:
        """The body while there is no answer."""
        request = self._request
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created_at,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": _echo(request.instructions),
            "max_output_tokens": request.max_output_tokens,
            "metadata": {},
            "model": request.model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": request.previous_response_id,
            "temperature": request.temperature,
            "tool_choice": request.tool_choice or "auto",
            "tools": _echo([tool.model_dump() for tool in request.tools or ()]),
            "top_p": request.top_p,
            "truncation": "disabled",
            "usage": None,
        }

    def body(self, answer: Answer) -> Body:
        """The body with an answer."""
        is_cut = answer.finish_reason == "length"
        status = "incomplete" if is_cut else "completed"
        prompt, completion = len(answer.completion.prompt_ids), len(answer.completion.token_ids)
        return {
            **self.pending(),
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": self._output(answer, status),
            "usage": {
                "input_tokens": prompt,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": completion,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": prompt + completion,
            },
        }

    def logprobs(self, scored: Sequence[tuple[int, float]]) -> list[Body]:
        """Log-probabilities of tokens, if they are asked for."""
        if not self._request.with_logprobs:
            return []
        content: list[Body] = chat_logprobs(scored, self._tokenizer)["content"]
        return content

    def message(self, status: str, content: list[Body]) -> Body:
        """The item of the text."""
        return {
            "id": self.message_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _output(self, answer: Answer, status: str) -> list[Body]:
        """The text, unless there are only calls, and the calls."""
        items: list[Body] = []
        if answer.reply.text or not answer.reply.calls:
            logprobs = self.logprobs(scored_tokens(answer))
            items.append(self.message(status, [_text(answer.reply.text, logprobs)]))
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


class ResponseEvents:
    """The same reply as server-sent events."""

    def __init__(self, reply: ResponseReply) -> None:
        self._reply = reply
        self._number = 0
        self._has_message = False

    def begin(self) -> Iterator[str]:
        """The response without an answer."""
        pending = self._reply.pending()
        yield self._event("response.created", response=pending)
        yield self._event("response.in_progress", response=pending)

    def add(self, piece: Piece) -> Iterator[str]:
        """A piece of the text."""
        yield from self._open_message()
        yield self._delta(piece.text, self._reply.logprobs(piece.scored))

    def end(self, answers: Sequence[Answer], rest: Sequence[Piece]) -> Iterator[str]:
        """The rest of the text, the calls and the whole response."""
        (answer,), (piece,) = answers, rest
        body = self._reply.body(answer)
        for index, item in enumerate(body["output"]):
            if item["type"] == "message":
                yield from self._open_message()
                yield from self._close_message(item, piece)
            else:
                yield from self._call(item, index)
            yield self._event("response.output_item.done", output_index=index, item=item)
        yield self._event(f"response.{body['status']}", response=body)

    def fail(self, error: ApiError) -> Iterator[str]:
        """The error."""
        yield self._event(
            "error", code=error.code or "server_error", message=error.message, param=error.param
        )

    def _open_message(self) -> Iterator[str]:
        if self._has_message:
            return
        self._has_message = True
        item = self._reply.message("in_progress", [])
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._text_event("response.content_part.added", part=_text("", []))

    def _close_message(self, item: Body, piece: Piece) -> Iterator[str]:
        for chunk in in_chunks(piece.text):
            yield self._delta(chunk, [])
        (part,) = item["content"]
        scored = [_without_bytes(each) for each in part["logprobs"]]
        yield self._text_event("response.output_text.done", text=part["text"], logprobs=scored)
        yield self._text_event("response.content_part.done", part=part)

    def _call(self, item: Body, index: int) -> Iterator[str]:
        begun = {**item, "status": "in_progress", "arguments": ""}
        place = {"output_index": index, "item_id": item["id"]}
        yield self._event("response.output_item.added", output_index=index, item=begun)
        for chunk in in_chunks(item["arguments"]):
            yield self._event("response.function_call_arguments.delta", **place, delta=chunk)
        yield self._event(
            "response.function_call_arguments.done",
            **place,
            name=item["name"],
            arguments=item["arguments"],
        )

    def _delta(self, text: str, logprobs: list[Body]) -> str:
        scored = [_without_bytes(each) for each in logprobs]
        return self._text_event("response.output_text.delta", delta=text, logprobs=scored)

    def _text_event(self, kind: str, **fields: Any) -> str:
        place = {"output_index": 0, "item_id": self._reply.message_id, "content_index": 0}
        return self._event(kind, **place, **fields)

    def _event(self, kind: str, **fields: Any) -> str:
        number, self._number = self._number, self._number + 1
        return event({"type": kind, **fields, "sequence_number": number}, kind)


def _text(text: str, logprobs: list[Body]) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _without_bytes(scored: Body) -> Body:
    return {"token": scored["token"], "logprob": scored["logprob"], "top_logprobs": []}


def _echo(value: Any) -> Any:
    """A value of the request as a reply can have it: strict JSON in well-formed text."""
    return map_texts(json.loads(json.dumps(value), parse_constant=str), well_formed)
