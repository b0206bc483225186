"""Slots and the line of answers before them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.sampler import uniforms
from steadyrl.engines.scheduler import Slots, Ticket, WaitingLine

CPU = torch.device("cpu")
BUDGET = 4


def filled(running: int) -> Slots:
    """Slots whose row `n` holds `n + 1` prompt tokens, one answer token, and numbers of its own."""
    slots = Slots(running + 1, running + 1 + BUDGET, BUDGET, CPU)
    for n in range(running):
        slots.admit(
            Ticket(request=n, sample=0), torch.full((n + 1,), n), torch.full((BUDGET,), n / 8)
        )
    rows = slice(0, running)
    slots.append(rows, torch.arange(running) + 50, -torch.arange(running).float())
    return slots


@settings(deadline=None, max_examples=60)
@given(data=st.data(), running=st.integers(1, 7))
def test_released_rows_are_gone_and_the_others_stay_whole(
    data: st.DataObject, running: int
) -> None:
    slots = filled(running)
    finished = sorted(data.draw(st.sets(st.integers(0, running - 1), min_size=1)))
    moved_from, moved_to = slots.release(finished)
    left = [ticket.request for ticket in slots.tickets]
    assert sorted(left) == [n for n in range(running) if n not in finished]
    assert slots.running == len(left)
    moves = zip(moved_from, moved_to, strict=True)
    assert all(target < slots.running <= source for source, target in moves)
    for row, n in enumerate(left):
        assert slots.tokens[row, : n + 2].tolist() == [n] * (n + 1) + [n + 50]
        assert slots.lengths[row].item() == n + 2
        assert slots.prompt_lengths[row].item() == n + 1
        assert slots.logprobs[row, 0].item() == -n
        assert slots.uniforms[row].tolist() == [n / 8] * BUDGET


def test_a_new_answer_takes_the_first_free_row_with_nothing_of_the_old_one_in_sight() -> None:
    slots = filled(3)
    slots.release([1])
    slots.admit(Ticket(request=9, sample=2), torch.tensor([7, 8]), torch.full((BUDGET,), 0.5))
    assert [ticket.request for ticket in slots.tickets] == [0, 2, 9]
    slots.append(slice(2, 3), torch.tensor([60]), torch.tensor([-6.0]))
    assert slots.tokens[2, : int(slots.lengths[2])].tolist() == [7, 8, 60]
    assert slots.logprobs[2, 0].item() == -6


def test_answers_wait_in_the_order_of_their_requests() -> None:
    sampling = Sampling(max_new_tokens=2)
    requests = [
        Request(prompt_ids=torch.tensor([1]), num_completions=count, seed=count, sampling=sampling)
        for count in (2, 0, 3)
    ]
    line = WaitingLine(requests)
    assert len(line) == 5
    tickets = [*line.take(3), *line.take(9)]
    places = [(ticket.request, ticket.sample) for ticket in tickets]
    assert places == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
    assert len(line) == 0
    numbers = line.uniforms(tickets[1:4])
    first, last = (uniforms(requests[n]) for n in (0, 2))
    assert torch.equal(torch.stack(numbers), torch.stack([first[1], last[0], last[1]]))
