"""Routes of running sequences, each number on its own token."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadyrl.engines.route_recorder import RouteRecorder
from steadyrl.records.routing import Routing, fed_tokens_checksum

LAYERS, CHOSEN = 2, 3


def experts_of(sequence: int, positions: Tensor) -> Tensor:
    """Choices that say whose they are, where, and in which layer."""
    layer_and_place = torch.arange(LAYERS * CHOSEN).view(LAYERS, CHOSEN)
    return (50 * sequence + 7 * positions[..., None, None] + layer_and_place) % 256


def token_of(sequence: int, position: int) -> int:
    return 1000 * sequence + position


def assert_whole(routing: Routing, sequence: int, length: int) -> None:
    tokens = torch.tensor([[token_of(sequence, p) for p in range(length)]])
    known = torch.ones(1, length, dtype=torch.bool)
    assert torch.equal(routing.known, known)
    assert torch.equal(routing.fed_tokens, fed_tokens_checksum(tokens, known))
    assert routing.padded().experts.dtype == torch.uint8
    assert torch.equal(routing.at(known).long(), experts_of(sequence, torch.arange(length)))
    assert not any(piece.is_inference() for piece in routing.experts[0])


@settings(deadline=None, max_examples=25)
@given(data=st.data(), rows=st.integers(1, 4))
def test_every_sequence_gets_its_own_routes_whenever_it_begins_moves_and_ends(
    data: st.DataObject, rows: int
) -> None:
    # A block is full after two steps or four.
    block_bytes = LAYERS * CHOSEN * data.draw(st.sampled_from([2, 4]))
    recorder = RouteRecorder(rows=1, dtype=torch.uint8, block_bytes=block_bytes)
    room = 1
    running: list[list[int]] = []  # by row: the sequence, its length, and the one it ends at
    whole: list[list[int]] = []
    taken: list[Routing] = []
    kept: list[tuple[int, list[int]]] = []  # which have ended and are taken later
    begun = ended = 0
    with torch.inference_mode():
        while ended < 6:
            new = list(range(len(running), rows if begun < 6 else len(running)))[: 6 - begun]
            prompts = [data.draw(st.integers(1, 5)) for _ in new]
            if len(running) + len(new) > room:  # grows while sequences run
                room = data.draw(st.integers(len(running) + len(new), rows))
                recorder.reserve(room)
            if new:
                width = max(prompts)
                experts = torch.stack(
                    [experts_of(begun + n, torch.arange(width)) for n in range(len(new))]
                )
                tokens = [
                    torch.tensor([token_of(begun + n, p) for p in range(length)])
                    for n, length in enumerate(prompts)
                ]
                recorder.begin(new, range(len(new)), tokens, experts)
            for length in prompts:
                answer = data.draw(st.integers(0, 9))
                running.append([begun, length, length + answer])
                begun += 1
            finished = [row for row, (_, length, end) in enumerate(running) if length == end]
            if finished:
                numbers = recorder.numbers(finished)
                if data.draw(st.booleans()):
                    taken += recorder.take(numbers)
                    whole += [running[row][:2] for row in finished]
                else:
                    kept += zip(numbers, [running[row][:2] for row in finished], strict=True)
                ended += len(finished)
                left = len(running) - len(finished)
                holes = [row for row in finished if row < left]
                movers = [row for row in range(left, len(running)) if row not in finished]
                recorder.move(movers, holes)
                for mover, hole in zip(movers, holes, strict=True):
                    running[hole] = running[mover]
                del running[left:]
                continue
            recorder.step(
                torch.tensor([token_of(number, length) for number, length, _ in running]),
                torch.stack(
                    [experts_of(number, torch.tensor(length)) for number, length, _ in running]
                ),
            )
            for sequence in running:
                sequence[1] += 1
        if kept:
            taken += recorder.take([number for number, _ in kept])
            whole += [sequence for _, sequence in kept]
    for routing, (number, length) in zip(taken, whole, strict=True):
        assert_whole(routing, number, length)


def test_answers_to_one_prompt_share_its_routes() -> None:
    recorder = RouteRecorder(rows=3, dtype=torch.uint8)
    prompt = torch.tensor([token_of(0, p) for p in range(4)])
    recorder.begin([0, 1, 2], [0, 0, 0], [prompt], experts_of(0, torch.arange(6))[None])
    for position in (4, 5):
        recorder.step(
            torch.full((3,), token_of(0, position)),
            experts_of(0, torch.tensor([position] * 3)),
        )
    answers = recorder.take(recorder.numbers([0, 1, 2]))
    for routing in answers:
        assert_whole(routing, 0, 6)
    assert len({routing.experts[0][0].data_ptr() for routing in answers}) == 1


def test_a_dropped_sequence_begins_again_and_leaves_no_routes_behind() -> None:
    recorder = RouteRecorder(rows=2, dtype=torch.uint8)

    def begin(row: int, sequence: int) -> None:
        prompt = torch.tensor([token_of(sequence, p) for p in range(3)])
        recorder.begin([row], [0], [prompt], experts_of(sequence, torch.arange(3))[None])

    def step(*running: tuple[int, int]) -> None:
        recorder.step(
            torch.tensor([token_of(*entry) for entry in running]),
            torch.stack([experts_of(number, torch.tensor(p)) for number, p in running]),
        )

    begin(0, 0)
    begin(1, 1)
    step((0, 3), (1, 3))
    recorder.drop(recorder.numbers([1]))
    step((0, 4))
    begin(1, 1)
    step((0, 5), (1, 3))
    one, other = recorder.take(recorder.numbers([1, 0]))
    assert_whole(one, 1, 4)
    assert_whole(other, 0, 6)
    # Answers lie side by side in one storage: three tokens of one and one of the other.
    assert one.experts[0][-1].untyped_storage().nbytes() == 4 * LAYERS * CHOSEN


def test_full_blocks_become_pieces_without_padding() -> None:
    recorder = RouteRecorder(rows=2, dtype=torch.uint8, block_bytes=2 * LAYERS * CHOSEN)
    prompt = torch.tensor([token_of(0, 0)])
    recorder.begin([0, 1], [0, 0], [prompt], experts_of(0, torch.arange(1))[None])
    for position in range(1, 6):  # a block holds two steps
        recorder.step(
            torch.full((2,), token_of(0, position)), experts_of(0, torch.tensor([position] * 2))
        )
    for routing in recorder.take(recorder.numbers([0, 1])):
        assert_whole(routing, 0, 6)
        assert [len(piece) for piece in routing.experts[0]] == [1, 2, 2, 1]
