import torch

from steadyrl.objectives.grouping import Grouping


def test_groups_may_be_interleaved_and_differ_in_size() -> None:
    groups = Grouping.by(torch.tensor([7, 3, 7, -1, 7, 3]))
    values = torch.tensor([1.0, 10.0, -2.0, 5.0, 4.0, 20.0])
    assert groups.ids.tolist() == [-1, 3, 7]
    assert groups.sizes.tolist() == [3, 2, 3, 1, 3, 2]
    assert groups.total(values).tolist() == [3.0, 30.0, 3.0, 5.0, 3.0, 30.0]
    assert groups.smallest(values).tolist() == [-2.0, 10.0, -2.0, 5.0, -2.0, 10.0]
