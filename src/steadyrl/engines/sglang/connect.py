"""Connection to an SGLang server: what it was started with, and whether that suits a run."""

from typing import Any

import torch

from steadyrl.base.errors import UserError
from steadyrl.engines.driver import drive
from steadyrl.engines.engine_settings import EngineContext
from steadyrl.engines.protocol import EngineCapabilities
from steadyrl.engines.served_model import ServedModel, weights_of
from steadyrl.engines.servers.client import ServerClient, describing_itself
from steadyrl.engines.servers.engine import ServerEngine
from steadyrl.engines.servers.folders import SyncFolders
from steadyrl.engines.sglang.server import SglangServer
from steadyrl.engines.sglang.settings import SglangSettings


def connect(settings: SglangSettings, context: EngineContext) -> ServerEngine:
    """The engine on the server at `settings.url`.

    Raises:
        UserError: the server cannot be reached, or was started with unsuitable options.
    """
    dtype = getattr(torch, settings.numerics)
    policy, seed = context.policy, context.seed
    model = ServedModel.of(policy, dtype=dtype, rounding=settings.rounding, seed=seed)
    client = ServerClient.of(settings.url, settings.api_key_variable, settings.timeout)
    options = drive(_options(client))
    _check(options, client.url, settings, model)
    routes = model.moe is not None and options["enable_return_routed_experts"]
    shape = None
    if routes and model.moe is not None:
        layers = model.config.get_text_config().num_hidden_layers
        shape = (layers, model.moe.experts_per_token)
    return ServerEngine(
        SglangServer(client, end_token_ids=model.end_token_ids, route_shape=shape),
        model,
        weights_of(policy),
        EngineCapabilities(
            max_positions=options["max_req_input_len"],
            routing=routes,
            exact_draws=False,
            scoring=True,
        ),
        SyncFolders(model, settings.sync_folder),
        max_running=settings.max_running,
        patience=settings.patience,
        progress=context.progress,
    )


async def _options(client: ServerClient) -> dict[str, Any]:
    """The options with which the server was started, and the architecture of its model."""
    with describing_itself(client.url, "SGLang", "0.5.23"):
        info = await client.get("/server_info")
        model = await client.get("/model_info")
        return {
            "dtype": str(info["dtype"]),
            "max_req_input_len": int(info["max_req_input_len"]),
            "enable_return_routed_experts": bool(info["enable_return_routed_experts"]),
            "preferred_sampling_params": info.get("preferred_sampling_params"),
            "architectures": list(model["architectures"]),
        }


def _check(options: dict[str, Any], url: str, settings: SglangSettings, model: ServedModel) -> None:
    if options["dtype"] != settings.numerics:
        raise UserError(
            f"The SGLang server at {url} was started with --dtype {options['dtype']}, but "
            f"engine.numerics is {settings.numerics!r}. Start it with --dtype {settings.numerics}, "
            "or change engine.numerics."
        )
    if options["preferred_sampling_params"]:
        raise UserError(
            f"The SGLang server at {url} adds sampling parameters to every request: "
            f"{options['preferred_sampling_params']}. Start it without "
            "--preferred-sampling-params."
        )
    if options["architectures"] != model.config.architectures:
        raise UserError(
            f"The SGLang server at {url} serves a model of class {options['architectures']}, but "
            f"this run trains {model.config.architectures}. Serve the same model, or correct "
            "engine.url."
        )
