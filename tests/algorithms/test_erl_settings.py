"""Settings of Experiential RL: the paper's, and nothing that does nothing."""

import math
import re
from typing import Any

import pytest
from pydantic import ValidationError

from steadyrl.algorithms.erl_settings import ExperientialSettings
from steadyrl.algorithms.memory import NoMemory, Retrieval, SingleSlot
from steadyrl.algorithms.reflection import (
    FrozenReflection,
    NoReflection,
    PolicyReflection,
    ServerReflection,
)
from steadyrl.objectives import GRPO, NLL, Aggregation


def test_defaults_are_those_of_the_paper_and_its_code() -> None:
    settings = ExperientialSettings()
    # arXiv:2602.13949, appendix C; sampling of reflections and aggregation from its code.
    assert (settings.prompts, settings.group_size, settings.threshold) == (64, 4, 1.0)
    assert settings.objective == GRPO(clip_low=0.2, clip_high=0.28)
    assert settings.advantage == "group_mean_std"
    assert settings.aggregation is Aggregation.TOKEN_SUM
    assert settings.gate
    assert settings.memory == SingleSlot(workers=1)
    assert settings.group_of_one == "reward"
    assert settings.internalization == NLL()
    assert settings.internalization_coefficient == 1.0
    assert settings.updates == "mixed"
    assert not settings.reference_kl.is_on  # 0.001 in the paper, at the price of a second model
    assert isinstance(settings.reflection, PolicyReflection)
    sampling = settings.reflection.sampling
    assert (sampling.temperature, sampling.top_p) == (0.5, 0.9)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"memory": {"name": "retrieval"}}, Retrieval),
        ({"memory": {"name": "none"}}, NoMemory),
        ({"reflection": {"name": "server", "model": "m"}}, ServerReflection),
        ({"reflection": {"name": "frozen"}}, FrozenReflection),
        ({"reflection": {"name": "none"}, "memory": {"name": "none"}}, NoReflection),
    ],
)
def test_variants_are_chosen_by_name(values: dict[str, Any], kind: type) -> None:
    settings = ExperientialSettings(**values)
    assert isinstance(getattr(settings, next(iter(values))), kind)
    assert ExperientialSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"reference_kl": {"coefficient": -1}}, "reference_kl.coefficient"),
        ({"updates": "sequential", "mini_batches": 2}, "'sequential' with mini_batches 2: .* to 1"),
        ({"reflection": {"name": "none"}}, "'single_slot' would never be written. Set memory to"),
        ({"internalization_coefficient": 0}, "internalization_coefficient"),
        ({"internalization": {"name": "nll", "cap": 2}}, "internalization.cap"),
        ({"memory": {"name": "single_slot", "workers": 0}}, "memory.workers"),
        (
            {"reflection": {"name": "policy", "sampling": {"temperature": 0}}},
            "temperature of reflections is 0: .* Set a temperature above 0",
        ),
        ({"reflection": {"name": "server"}}, "reflection.model"),
        ({"group_size": 1, "group_of_one": "zero"}, "Set group_size to 2 or more"),
        ({"threshold": math.nan}, "threshold Input should be a finite number"),
        ({"internalization_coefficient": math.inf}, "finite number"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        ExperientialSettings(**values)
    assert re.search(message, " ".join(str(refusal.value).split()))


def test_gradient_steps_are_mini_batches_or_the_three_parts() -> None:
    assert ExperientialSettings().gradient_steps == 1
    assert ExperientialSettings(mini_batches=4).gradient_steps == 4
    assert ExperientialSettings(updates="sequential").gradient_steps == 3
