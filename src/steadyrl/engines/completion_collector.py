"""Collection of finished completions until all completions of a request are finished."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import torch
from jaxtyping import Int
from torch import Tensor

from steadyrl.engines.protocol import Request
from steadyrl.engines.route_recorder import RouteRecorder
from steadyrl.engines.sampler import has_candidates
from steadyrl.engines.scheduler import Slots
from steadyrl.records.candidates import Candidates
from steadyrl.records.completion import Completion, FinishReason
from steadyrl.records.routing import Routing
from steadyrl.records.support import Support


@dataclass(frozen=True, slots=True)
class _Finished:
    completion: Callable[..., Completion]
    """Makes the completion, given its routing."""

    sequence: int
    """Number of the sequence in the route recorder."""


class CompletionCollector:
    """Collects the completions of each request.

    Args:
        routes: Recorder of the routes of all sequences; None: routes are not recorded.
    """

    def __init__(self, routes: RouteRecorder | None) -> None:
        self._routes = routes
        self._requests: dict[int, Request] = {}
        self._answers: dict[int, dict[int, _Finished]] = {}
        """Finished completions by request and sample."""
        self._complete: list[int] = []
        """Requests whose completions are all finished."""

    def expect(self, number: int, request: Request) -> None:
        """Registers a request."""
        self._requests[number], self._answers[number] = request, {}
        self._note_complete(number)

    def forget(self, number: int) -> None:
        """Discards a request."""
        answers = self._answers.pop(number)
        if self._routes is not None:
            self._routes.drop([answer.sequence for answer in answers.values()])
        del self._requests[number]
        self._complete = [complete for complete in self._complete if complete != number]

    @torch.inference_mode(False)  # a trainer may use it under autograd
    @torch.no_grad()
    def finish(self, slots: Slots, rows: list[int], stopped: Sequence[bool], version: int) -> None:
        """Takes the finished sequences in `rows`; `stopped` ones ended with an end token.

        Args:
            version: Version of the present weights, which sampled their last tokens.
        """
        lengths = slots.lengths[rows].cpu()
        tokens, logprobs = slots.tokens[rows].cpu(), slots.logprobs[rows].cpu()
        sequences = rows if self._routes is None else self._routes.numbers(rows)
        for place, (row, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
            name = slots.ids[row]
            request = self._requests[name.request]
            prompt = request.prompt_ids
            completion = partial(
                Completion,
                prompt_ids=prompt,
                token_ids=tokens[place, len(prompt) : length],
                logprobs=logprobs[place, : length - len(prompt)],
                finish_reason=FinishReason.STOP if stopped[place] else FinishReason.LENGTH,
                policy_version=version,
                support=Support.of(slots.supports[row]) if slots.supports[row] else None,
                versions=_versions(slots.earlier[row], version, length - len(prompt)),
                candidates=_candidates(slots, row, request, length - len(prompt)),
            )
            self._answers[name.request][name.sample] = _Finished(completion, sequences[place])
            self._note_complete(name.request)

    def collect(self) -> dict[int, list[Completion]]:
        """Completions of all complete requests, by request."""
        complete, self._complete = self._complete, []
        answers = {number: self._answers.pop(number) for number in complete}
        ordered = {n: [found[i] for i in range(len(found))] for n, found in answers.items()}
        routings = self._routings([answer for group in ordered.values() for answer in group])
        for number in complete:
            del self._requests[number]
        return {
            number: [answer.completion(routing=next(routings)) for answer in group]
            for number, group in ordered.items()
        }

    def _routings(self, answers: Sequence[_Finished]) -> Iterator[Routing | None]:
        if self._routes is None or not answers:
            return repeat(None)
        return iter(self._routes.take([answer.sequence for answer in answers]))

    def _note_complete(self, number: int) -> None:
        if len(self._answers[number]) == self._requests[number].num_completions:
            self._complete.append(number)


def _candidates(slots: Slots, row: int, request: Request, tokens: int) -> Candidates | None:
    """Candidates of the `tokens` tokens in a row; None: they are not kept."""
    if not (slots.candidate_ids.shape[2] and has_candidates(request.sampling)):
        return None
    return Candidates(
        ids=slots.candidate_ids[row, :tokens].cpu().clone(),
        logprobs=slots.candidate_logprobs[row, :tokens].cpu().clone(),
    )


def _versions(
    earlier: Sequence[tuple[int, int]], version: int, tokens: int
) -> Int[Tensor, " R"] | None:
    """Version that sampled each of `tokens` tokens; None: the present `version` sampled all."""
    if not earlier:
        return None
    present = (version, tokens - sum(count for _, count in earlier))
    versions, counts = torch.tensor([*earlier, present]).T
    return versions.repeat_interleave(counts)
