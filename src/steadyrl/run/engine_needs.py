"""Checks of the engine's capabilities against the configuration."""

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import EngineCapabilities
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import RunConfig
from steadyrl.run.sampling_notes import cut_samplings


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
    if not capabilities.exact_draws:
        for place, cuts in cut_samplings(config):
            raise UserError(
                f"{place} is cut by {cuts}, and the engine {config.engine.name!r} does not tell "
                "which tokens were left to draw from, so that the trainer cannot give them the "
                "probabilities they were drawn with. Set top_p to 1 and leave top_k out."
            )
    if not capabilities.exact_draws:
        return (
            f"The engine {config.engine.name!r} draws tokens by random numbers of its own: the run "
            "cannot be repeated, nor resumed to the same bits.",
        )
    return ()
