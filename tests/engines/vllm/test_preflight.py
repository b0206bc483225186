"""A preflight through vLLM in this process, by the engine's protocol alone."""

from pathlib import Path

import pytest

from steadyrl.analysis.safety import Verdict
from steadyrl.engines.protocol import Sampling
from steadyrl.engines.vllm.settings import VllmSettings
from steadyrl.policies.model_settings import Pretrained
from steadyrl.preflight import PreflightSettings, preflight
from tests.engines.vllm.models import qwen3_moe
from tests.run.tiny import tiny_run

pytestmark = pytest.mark.vllm


def test_a_float32_server_of_experts_is_near_and_gets_its_weights(tmp_path: Path) -> None:
    policy = qwen3_moe()
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    config = tiny_run(
        model=Pretrained(path=str(tmp_path)),
        cold_start=None,
        engine=VllmSettings(numerics="float32", cache_memory=64),
        sampling=Sampling(max_new_tokens=8),
    )

    found = {f.question: f for f in preflight(config, PreflightSettings(prompts=4)).findings}

    for question in ("kl", "kl_decoding", "kl_rounding", "kl_routing", "company_engine"):
        value = found[question].value
        assert value is not None
        assert value < 1e-6, question
    assert found["canary"].verdict is Verdict.SAFE
    assert found["gold"].value == 1.0
