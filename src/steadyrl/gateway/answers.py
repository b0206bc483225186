"""Answers to requests: completions as the client sees them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedTokenizerBase

from steadyrl.gateway.conversation import ChatMessage
from steadyrl.gateway.stop_strings import StopSearch
from steadyrl.policies.response_text import response_text
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.routing import Routing, fed_tokens_checksum
from steadyrl.records.tool_calls import ToolSettings, read_calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer.

    Example:
        Answer(completion=completion, text="7", reply=ChatMessage(role="assistant", text="7"),
               finish_reason="stop")
    """

    completion: Completion

    text: str
    """Text as the model wrote it, up to a stop string."""

    reply: ChatMessage
    """The message as the agent sees it."""

    finish_reason: str
    """OpenAI's word for why it ended: stop, length or tool_calls."""


def make_answer(
    completion: Completion,
    tokenizer: PreTrainedTokenizerBase,
    *,
    stops: Sequence[str] = (),
    tools: ToolSettings | None = None,
) -> Answer:
    """The answer in a completion.

    With a stop string, the completion is cut after the token that completes the string, and the
    text before the string.

    Args:
        tools: How calls are read; None: they are not.
    """
    text = response_text(completion, tokenizer)
    reason = "stop" if completion.finish_reason is FinishReason.STOP else "length"
    if any(stop in text for stop in stops):
        completion, reason = _cut(completion, tokenizer, stops), "stop"
        text = response_text(completion, tokenizer)
        text = text[: min(place for stop in stops if (place := text.find(stop)) >= 0)]
    content, calls = (text, ()) if tools is None else read_calls(text, tools)
    return Answer(
        completion=completion,
        text=text,
        reply=ChatMessage(role="assistant", text=content, calls=calls),
        finish_reason="tool_calls" if calls else reason,
    )


def scored_tokens(answer: Answer) -> list[tuple[int, float]]:
    """Ids and log-probabilities of an answer's tokens, without its end token."""
    completion = answer.completion
    scored = list(zip(completion.token_ids.tolist(), completion.logprobs.tolist(), strict=True))
    return scored[:-1] if completion.finish_reason is FinishReason.STOP else scored


def _cut(
    completion: Completion, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]
) -> Completion:
    """The completion up to the token that completes the first stop string."""
    search = StopSearch(tokenizer, stops)
    for position, token_id in enumerate(completion.token_ids.tolist()):
        if search.add(position, token_id):
            break
    cut = replace(completion.first(search.completed), finish_reason=FinishReason.LENGTH)
    if completion.routing is None:
        return cut
    return replace(cut, routing=_cut_routing(cut, completion.routing))


def _cut_routing(completion: Completion, routing: Routing) -> Routing:
    """The routes of the tokens that the shorter `completion` feeds."""
    fed = torch.cat([completion.prompt_ids, completion.token_ids])[:-1]
    known = routing.known[:, : len(fed)]
    (pieces,) = routing.experts
    return Routing(
        experts=((torch.cat(pieces)[: int(known.sum())].clone(),),),
        known=known,
        fed_tokens=fed_tokens_checksum(fed[None], known),
    )
