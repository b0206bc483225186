"""Router scores of a batch, from those of its micro-batches."""

import torch

from steadyrl.records.router_scores import RouterScores


def scores(rows: int, length: int, *, seed: int) -> RouterScores:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, length, 2, 3)
    return RouterScores(
        experts=torch.randint(8, shape, generator=generator, dtype=torch.uint8),
        logprobs=-torch.rand(shape, generator=generator),
    )


def test_rows_of_a_joined_batch_are_those_of_its_parts() -> None:
    long, short = scores(2, 5, seed=0), scores(1, 3, seed=1)
    places = torch.tensor([2, 0]), torch.tensor([1])
    whole = RouterScores.joined([(places[0], long), (places[1], short)], (3, 5))

    for index, part in zip(places, (long, short), strict=True):
        back = whole.rows(index, part.experts.shape[1])
        assert torch.equal(back.experts, part.experts)
        assert torch.equal(back.logprobs, part.logprobs)
    assert (whole.logprobs[1, 3:] == 0).all()
