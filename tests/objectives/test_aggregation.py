import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadyrl.base.errors import UserError
from steadyrl.objectives import Aggregation, aggregate, token_weights

# Four rows of 1, 3, 2 and 0 loss tokens; the first two answer prompt 5, the others prompt 9.
LOSS_MASK = torch.tensor([[0, 0, 1, 0], [0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]]).bool()
GROUP_IDS = torch.tensor([5, 5, 9, 9])


def constant_length(aggregation: Aggregation) -> int | None:
    return 10 if aggregation is Aggregation.CONSTANT else None


@pytest.mark.parametrize(
    ("aggregation", "weight_of_row"),
    [
        (Aggregation.TOKEN_SUM, [1 / 4, 1 / 4, 1 / 4]),
        (Aggregation.LENGTH_NORM, [1 / 4, 1 / 12, 1 / 8]),
        (Aggregation.TOKEN_MEAN, [1 / 6, 1 / 6, 1 / 6]),
        (Aggregation.GROUP_TOKEN_MEAN, [1 / 8, 1 / 8, 1 / 4]),
        (Aggregation.CONSTANT, [1 / 40, 1 / 40, 1 / 40]),
    ],
)
def test_token_weights_of_a_worked_example(
    aggregation: Aggregation, weight_of_row: list[float]
) -> None:
    weights = token_weights(
        LOSS_MASK, GROUP_IDS, aggregation, constant_length=constant_length(aggregation)
    )
    expected = LOSS_MASK * torch.tensor([*weight_of_row, 0.0]).unsqueeze(1)
    torch.testing.assert_close(weights, expected)


def published_objective(
    aggregation: Aggregation, objective: Tensor, mask: Tensor, group_ids: Tensor
) -> float:
    """The mean as its paper writes it, row by row and group by group."""
    rows = [row[kept].tolist() for row, kept in zip(objective, mask, strict=True)]
    groups: dict[int, list[float]] = {}
    for group_id, row in zip(group_ids.tolist(), rows, strict=True):
        groups.setdefault(group_id, []).extend(row)

    def mean(values: list[float]) -> float:
        return sum(values) / max(len(values), 1)

    match aggregation:
        case Aggregation.TOKEN_SUM:
            return mean([sum(row) for row in rows])
        case Aggregation.LENGTH_NORM:
            return mean([mean(row) for row in rows])
        case Aggregation.TOKEN_MEAN:
            return mean([value for row in rows for value in row])
        case Aggregation.GROUP_TOKEN_MEAN:
            return mean([mean(group) for group in groups.values()])
        case Aggregation.CONSTANT:
            return mean([sum(row) / 10 for row in rows])


@pytest.mark.parametrize("aggregation", Aggregation)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 6))
def test_losses_of_micro_batches_sum_to_the_published_objective(
    aggregation: Aggregation, seed: int, cut: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(6, 5, generator=generator) > 0.5
    group_ids = torch.randint(0, 3, (6,), generator=generator)
    objective = torch.randn(6, 5, generator=generator) * mask
    weights = token_weights(
        mask, group_ids, aggregation, constant_length=constant_length(aggregation)
    )
    order = torch.randperm(6, generator=generator)
    loss = sum(aggregate(objective[rows], weights[rows]) for rows in (order[:cut], order[cut:]))
    expected = published_objective(aggregation, objective, mask, group_ids)
    assert -loss.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("aggregation", Aggregation)
@given(places=st.lists(st.integers(0, 2), min_size=12, max_size=12))
def test_weights_of_tokens_do_not_depend_on_the_rows_their_response_is_cut_into(
    aggregation: Aggregation, places: list[int]
) -> None:
    # Every loss token of row i goes into one of three rows, 3 i to 3 i + 2, of the same response.
    kept = torch.tensor(places).reshape(4, 1, 3) == torch.arange(3).reshape(1, 3, 1)
    cut = LOSS_MASK[:, None, 1:] & kept
    weights = token_weights(
        cut.flatten(0, 1),
        GROUP_IDS.repeat_interleave(3),
        aggregation,
        response_ids=torch.arange(4).repeat_interleave(3),
        constant_length=constant_length(aggregation),
    )
    whole = token_weights(
        LOSS_MASK, GROUP_IDS, aggregation, constant_length=constant_length(aggregation)
    )
    assert torch.equal(weights.unflatten(0, (4, 3)).sum(dim=1), whole[:, 1:])


@pytest.mark.parametrize("aggregation", Aggregation)
def test_rows_without_an_advantage_can_be_left_out(aggregation: Aggregation) -> None:
    objective = torch.tensor([2.0, 0.0, -3.0, 0.0]).unsqueeze(1) * LOSS_MASK
    weights = token_weights(
        LOSS_MASK, GROUP_IDS, aggregation, constant_length=constant_length(aggregation)
    )
    kept = torch.tensor([0, 2])
    assert aggregate(objective[kept], weights[kept]) == aggregate(objective, weights)


@pytest.mark.parametrize("aggregation", Aggregation)
def test_a_batch_without_loss_tokens_has_no_loss(aggregation: Aggregation) -> None:
    weights = token_weights(
        torch.zeros(4, 4, dtype=torch.bool),
        GROUP_IDS,
        aggregation,
        constant_length=constant_length(aggregation),
    )
    assert weights.tolist() == [[0.0] * 4] * 4


def test_loss_falls_when_the_objective_rises() -> None:
    objective = torch.tensor([[1.0, 2.0]], requires_grad=True)
    loss = aggregate(objective, torch.tensor([[0.5, 0.25]]))
    loss.backward()
    assert loss.item() == -1.0
    assert objective.grad.tolist() == [[-0.5, -0.25]]


@pytest.mark.parametrize(
    ("aggregation", "length", "message"),
    [
        (Aggregation.CONSTANT, None, "got constant_length=None with aggregation 'constant'"),
        (Aggregation.TOKEN_SUM, 8, "got constant_length=8 with aggregation 'token_sum'"),
        (Aggregation.CONSTANT, 0, "at least 1 token, got 0. Set it to the maximum response"),
    ],
)
def test_constant_length_is_refused_when_it_cannot_mean_anything(
    aggregation: Aggregation, length: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        token_weights(LOSS_MASK, GROUP_IDS, aggregation, constant_length=length)
