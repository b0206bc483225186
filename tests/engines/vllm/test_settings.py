"""Settings of vLLM that nothing would read, or that say the same twice, are refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from steadyrl.engines.vllm.settings import VllmSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"options": {"dtype": "float16"}}, "follows from engine.numerics. Leave it out"),
        ({"options": {"logits_processors": ["a:B"]}}, "follows from sampling. Leave it out"),
        ({"options": {"override_generation_config": {"min_p": 0.1}}}, "follows from sampling."),
        ({"patience": 3.0}, "patience is only read with a server"),
        ({"url": "http://a", "restarts": 1}, "restarts is not read with engine.url"),
        ({"url": "http://a", "options": {"seed": 1}}, "options is not read with engine.url"),
        ({"url": "http://user@a"}, "String should match pattern"),
        ({"numerics": "fp8"}, "'bfloat16' or 'float32'"),
    ],
)
def test_settings_without_effect_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VllmSettings(**values)


def test_other_arguments_of_vllm_pass() -> None:
    assert VllmSettings(options={"gpu_memory_utilization": 0.5}).options
