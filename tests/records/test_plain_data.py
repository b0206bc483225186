"""Records written as plain data are read as they were, and tensors are written once."""

from dataclasses import replace

import torch
from tests.learners.small import completion_of, group_of

from steadyrl.algorithms.protocol import Rollout
from steadyrl.records.memory_write import MemoryWrite
from steadyrl.records.plain_data import from_bytes, to_bytes
from steadyrl.records.routing import Routing


def routed(piece: torch.Tensor) -> Routing:
    known = torch.ones(1, len(piece), dtype=torch.bool)
    return Routing(experts=((piece,),), known=known, fed_tokens=torch.tensor([7]))


def test_a_rollout_is_read_as_it_was_written() -> None:
    large = torch.arange(4_000_000)
    completion = replace(
        completion_of(3),
        versions=torch.tensor([1, 1, 2]),
        logprobs=torch.tensor([-0.1, -torch.inf, 0.0]),
        token_ids=large[:3],
        routing=routed(torch.ones(3, 2, 2, dtype=torch.uint8)),
    )
    group = group_of([[completion, completion_of(2)], []], rewards=[0.25, 1.0])
    write = MemoryWrite(slot=1, task_id="task", text="a lesson")
    rollouts = {
        4: Rollout(groups=(group,), failures=("one",), memory_writes=(write,)),
        7: Rollout(),
    }
    data = to_bytes(rollouts)
    read = from_bytes(dict[int, Rollout], data)

    assert len(data) < 100_000  # not the tensor that `token_ids` is a part of
    assert list(read) == [4, 7]
    assert read[7] == Rollout()
    assert read[4].failures == ("one",)
    assert read[4].memory_writes == (write,)
    (other,) = read[4].groups
    assert repr(other) == repr(group)
    assert (
        read[4].groups[0].trajectories[0].completions[0].finish_reason is completion.finish_reason
    )


def test_a_tensor_that_several_records_share_is_written_and_read_once() -> None:
    piece = torch.zeros(10_000, 4, 2, dtype=torch.uint8)
    routing = routed(piece)
    shared = [replace(completion_of(2), routing=routing) for _ in range(20)]
    rollout = Rollout(groups=(group_of([shared]),))
    data = to_bytes(rollout)
    read = from_bytes(Rollout, data)
    (trajectory,) = read.groups[0].trajectories
    pieces = [c.routing.experts[0][0] for c in trajectory.completions if c.routing]

    assert len(data) < 3 * piece.nbytes
    assert len({piece.data_ptr() for piece in pieces}) == 1
