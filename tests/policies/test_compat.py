"""Private names of other packages that are there, and the sentence where one is missing."""

import pytest
import torch
from torch import nn

from steadyrl.base.errors import UserError
from steadyrl.policies.compat import (
    changes,
    in_backward_pass,
    recorded_modules,
    wrap_gate,
)


def test_a_name_that_a_version_lacks_is_told_with_its_purpose() -> None:
    with pytest.raises(UserError, match=r"transformers \d.* has no _apply_gate, .* experts"):
        wrap_gate(nn.Identity(), lambda values: values)


def test_a_model_that_names_no_outputs_has_no_recorded_modules() -> None:
    assert recorded_modules(nn.Identity(), "router_logits") == ()


def test_backward_passes_and_changes_are_seen() -> None:
    weight = torch.ones(2, requires_grad=True)
    seen = []
    weight.register_hook(lambda _: seen.append(in_backward_pass()))
    weight.sum().backward()
    assert seen == [True]
    assert not in_backward_pass()
    values = torch.zeros(2)
    before = changes(values)
    values.add_(1)
    assert changes(values) == before + 1
