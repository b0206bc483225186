"""Checks of a run's parts against each other before its first step."""

from steadyrl.engines.canary import make_probes
from steadyrl.learners.adapter_check import TrainsAdapter, check_adapter
from steadyrl.policies.tokenizers import text_tokens
from steadyrl.run.assembly import Assembly
from steadyrl.run.config import RunConfig
from steadyrl.training.checked_engine import CheckedEngine


async def check_parts(assembly: Assembly, config: RunConfig) -> tuple[str, ...]:
    """Checks the adapter, if one is trained; returns notes about what was measured.

    Raises:
        UserError: a check failed.
    """
    learner, engine = assembly.learner, assembly.engine
    if config.learner.lora is None or not isinstance(learner, TrainsAdapter):
        return ()
    if isinstance(engine, CheckedEngine):
        engine = engine.engine
    tokens = text_tokens(assembly.tokenizer, learner.vocabulary_size)
    probes = make_probes(tokens, config.canary, engine.capabilities.max_positions)
    return (await check_adapter(learner, engine, probes, config.canary),)
