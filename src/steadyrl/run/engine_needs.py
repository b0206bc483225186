"""Whether an engine can do what a run needs of it."""

from steadyrl.base.errors import UserError
from steadyrl.engines.protocol import EngineCapabilities
from steadyrl.records.routing import RoutingReplay
from steadyrl.run.config import RunConfig


def check_engine(config: RunConfig, capabilities: EngineCapabilities) -> tuple[str, ...]:
    """Notes on what the run loses by this engine.

    Raises:
        UserError: the engine lacks what the configuration asks for.
    """
    if config.replay_to_begin_with is RoutingReplay.R3 and not capabilities.routing:
        raise UserError(
            f"routing_replay is 'r3', but the engine {config.engine.name!r} does not record which "
            "experts it chose. Set routing_replay to 'r2' or 'none', or choose another engine."
        )
    if not capabilities.exact_draws:
        return (
            f"The engine {config.engine.name!r} draws tokens by random numbers of its own: the run "
            "cannot be repeated, nor resumed to the same bits.",
        )
    return ()
