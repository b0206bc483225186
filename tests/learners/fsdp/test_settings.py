"""Settings of the FSDP2 learner, and what is refused."""

import pytest
import torch
from pydantic import ValidationError

from steadyrl.base.errors import UserError
from steadyrl.learners.fsdp.settings import FsdpLearnerSettings


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"ranks is 4, but PyTorch finds 1 GPU, .*\.ranks to 1"):
        FsdpLearnerSettings(ranks=4).device_type()
    assert FsdpLearnerSettings(ranks=4, device="cpu").device_type() == "cpu"
    assert FsdpLearnerSettings(ranks=1).device_type() == "cuda"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"ranks": 0}, "greater than or equal to 1"),
        ({"timeout": 0}, "greater than 0"),
        ({"rounding": "stochastic", "dtype": "bfloat16"}, "Input should be 'nearest'"),
        ({"head_dtype": "float32", "dtype": "bfloat16"}, "or use learner 'local'"),
        ({"lora": {"experts": True}, "dtype": "bfloat16"}, "lora.experts to false"),
    ],
)
def test_settings_that_fsdp_does_not_follow_are_refused(
    values: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        FsdpLearnerSettings.model_validate(values)
