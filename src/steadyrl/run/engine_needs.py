"""Checks of the engine's capabilities against the configuration."""

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import EngineCapabilities, Sampling
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import RunConfig


def check_engine(config: RunConfig, capabilities: EngineCapabilities) -> tuple[str, ...]:
    """Notes on what the run cannot do with this engine.

    Raises:
        UserError: the engine lacks a capability that the configuration requires.
    """
    if config.replay_to_begin_with is RoutingReplay.R3 and not capabilities.routing:
        raise UserError(
            f"routing_replay is 'r3', but the engine {config.engine.name!r} does not record which "
            "experts it chose. Set routing_replay to 'r2' or 'none', or choose another engine."
        )
    if not capabilities.sampling_support:
        for place, sampling in config.learned_samplings().items():
            if sampling.is_truncated:
                raise UserError(
                    f"{place} is truncated by {_cuts(sampling)}, and the engine "
                    f"{config.engine.name!r} does not tell which tokens could be drawn, so that "
                    "the trainer cannot give them the probabilities they were sampled with. Set "
                    "top_p to 1 and leave top_k out, or choose the engine 'local'."
                )
    if config.algorithm.reads_candidates and not capabilities.candidates:
        raise UserError(
            "The objective reads the most probable tokens of the engine, which the engine "
            f"{config.engine.name!r} does not record. Choose the engine 'local', or an objective "
            "and a correction that do not read them."
        )
    if config.engine.rescored_groups and not capabilities.scoring:
        raise UserError(
            f"engine.rescored_groups is {config.engine.rescored_groups}, but the engine "
            f"{config.engine.name!r} does not score given tokens. Set it to 0, or choose another "
            "engine."
        )
    if config.engine.in_flight == "continue":
        return (
            "Generation continues when weights change (engine.in_flight): no task is skipped or "
            "learned from twice, but the run cannot be repeated to the same bits.",
        )
    if not capabilities.exact_draws:
        return (
            f"The engine {config.engine.name!r} draws tokens by random numbers of its own: the run "
            "cannot be repeated, nor resumed to the same bits.",
        )
    return ()


def _cuts(sampling: Sampling) -> str:
    cuts = [f"top_p {sampling.top_p:g}"] if sampling.top_p < 1 else []
    cuts += [f"top_k {sampling.top_k}"] if sampling.top_k is not None else []
    return " and ".join(cuts)
