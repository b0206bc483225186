"""Slots and the line of answers before them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyrl.engines.protocol import Request, Sampling
from steadyrl.engines.sampler import Sampled, uniforms
from steadyrl.engines.scheduler import RequestQueue, SampleId, Slots

CPU = torch.device("cpu")
BUDGET = 4


def request_of(length: int, token: int, seed: int = 0, **sampling: float) -> Request:
    return Request(
        prompt_ids=torch.full((length,), token),
        num_completions=1,
        seed=seed,
        sampling=Sampling(max_new_tokens=BUDGET, **sampling),
    )


def filled(running: int) -> Slots:
    """Slots whose row `n` holds `n + 1` prompt tokens, one answer token, and numbers of its own."""
    slots = Slots(CPU)
    for n in range(running):  # room as it is needed, and now and then more
        slots.reserve(n + 1 + n % 2, n + 1 + BUDGET, BUDGET)
        slots.admit([SampleId(request=n, sample=0)], {n: request_of(n + 1, n, seed=n)})
    slots.reserve(running + 1, running + 1 + BUDGET, BUDGET)
    rows = slice(0, running)
    slots.append(rows, Sampled(torch.arange(running) + 50, -torch.arange(running).float()))
    return slots


@settings(deadline=None, max_examples=60)
@given(data=st.data(), running=st.integers(1, 7))
def test_released_rows_are_gone_and_the_others_stay_whole(
    data: st.DataObject, running: int
) -> None:
    slots = filled(running)
    finished = sorted(data.draw(st.sets(st.integers(0, running - 1), min_size=1)))
    moved_from, moved_to = slots.release(finished)
    left = [name.request for name in slots.ids]
    assert sorted(left) == [n for n in range(running) if n not in finished]
    assert slots.running == len(left)
    moves = zip(moved_from, moved_to, strict=True)
    assert all(target < slots.running <= source for source, target in moves)
    for row, n in enumerate(left):
        assert slots.tokens[row, : n + 2].tolist() == [n] * (n + 1) + [n + 50]
        assert slots.lengths[row].item() == n + 2
        assert slots.prompt_lengths[row].item() == n + 1
        assert slots.logprobs[row, 0].item() == -n
        assert torch.equal(slots.uniforms[row], uniforms(request_of(1, 0, seed=n))[0])


def test_a_new_answer_takes_the_first_free_row_with_nothing_of_the_old_one_in_sight() -> None:
    slots = filled(3)
    slots.release([1])
    slots.admit([SampleId(request=9, sample=0)], {9: request_of(2, 7)})
    assert [name.request for name in slots.ids] == [0, 2, 9]
    slots.append(slice(2, 3), Sampled(torch.tensor([60]), torch.tensor([-6.0])))
    assert slots.tokens[2, : int(slots.lengths[2])].tolist() == [7, 7, 60]
    assert slots.logprobs[2, 0].item() == -6
    assert slots.budgets[:3].tolist() == [BUDGET] * 3


def test_rows_are_told_apart_by_how_they_draw_as_long_as_they_do() -> None:
    slots = Slots(CPU)
    slots.reserve(4, 8, BUDGET)
    for n, temperature in enumerate((1.0, 0.5, 1.0, 0.5)):
        request = request_of(1, n, temperature=temperature)
        slots.admit([SampleId(request=n, sample=0)], {n: request})

    def found(rows: slice) -> list[tuple[float, list[int] | None]]:
        return [(sampling.temperature, places) for sampling, places in slots.samplings(rows)]

    assert found(slice(0, 4)) == [(1.0, [0, 2]), (0.5, [1, 3])]
    assert found(slice(2, 4)) == [(1.0, [0]), (0.5, [1])]
    slots.release([1])  # row 3 moves there
    assert found(slice(0, 3)) == [(1.0, [0, 2]), (0.5, [1])]
    slots.release([1])
    assert found(slice(0, 2)) == [(1.0, None)]


def test_answers_wait_in_the_order_of_their_requests() -> None:
    requests = {
        number: Request(
            prompt_ids=torch.tensor([1]),
            num_completions=count,
            seed=count,
            sampling=Sampling(max_new_tokens=2),
        )
        for number, count in enumerate((2, 0, 3, 1))
    }
    queue = RequestQueue()
    for number, request in requests.items():
        queue.add(number, request)
    assert len(queue) == 6
    queue.remove(3)
    names = [*queue.take(3), *queue.take(9)]
    places = [(name.request, name.sample) for name in names]
    assert places == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
    assert len(queue) == 0
    slots = Slots(CPU)
    slots.reserve(3, 4, 2)
    slots.admit(names[1:4], requests)
    first, last = (uniforms(requests[n]) for n in (0, 2))
    assert slots.ids == names[1:4]
    assert torch.equal(slots.uniforms, torch.stack([first[1], last[0], last[1]]))
