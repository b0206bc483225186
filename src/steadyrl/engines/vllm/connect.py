"""Connection to a vLLM server: what it was started with, and whether that suits a run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steadyrl.base.errors import UserError
from steadyrl.base.progress import Progress
from steadyrl.engines.driver import drive
from steadyrl.engines.protocol import EngineCapabilities
from steadyrl.engines.served_model import ServedModel, weights_of
from steadyrl.engines.servers.client import ServerClient, describing_itself
from steadyrl.engines.servers.engine import ServerEngine
from steadyrl.engines.servers.folders import SyncFolders
from steadyrl.engines.vllm.server import RELOAD, VllmServer
from steadyrl.engines.vllm.settings import ADAPTER_RANKS, VllmSettings
from steadyrl.policies.policy import Policy
from steadyrl.records.weight_source import WeightSource

EXTENSION = "steadyrl.engines.vllm.worker.WorkerExtension"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Options with which a vLLM server was started."""

    dtype: str
    max_positions: int
    logprobs_mode: str
    generation_config: str
    logits_processors: tuple[str, ...]
    """Classes that change the logits of every request."""

    routes: bool
    adapter_rank: int
    """0: the server accepts no adapters."""

    device: str
    extension: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "ServerOptions":
        """Reads `vllm_config` of `/server_info?config_format=json`.

        Raises:
            KeyError: it has another format.
        """
        model = config["model_config"]
        return cls(
            dtype=str(model["dtype"]).removeprefix("torch."),
            max_positions=int(model["max_model_len"]),
            logprobs_mode=str(model["logprobs_mode"]),
            generation_config=str(model["generation_config"]),
            logits_processors=tuple(map(str, model.get("logits_processors") or ())),
            routes=bool(model.get("enable_return_routed_experts")),
            adapter_rank=int((config.get("lora_config") or {}).get("max_lora_rank", 0)),
            device=str(config["device_config"]["device"]),
            extension=str(config["parallel_config"].get("worker_extension_cls")),
        )

    def fault(self, settings: VllmSettings, model: ServedModel) -> str | None:
        """Properties of the server that do not suit a run, and how to start it instead."""
        return next(self._faults(settings, model), None)

    def _faults(self, settings: VllmSettings, model: ServedModel) -> Iterator[str]:
        if self.dtype != settings.numerics:
            yield (
                f"computes in {self.dtype}, but engine.numerics is {settings.numerics!r}. Start it "
                f"with --dtype {settings.numerics}, or change engine.numerics"
            )
        if self.logprobs_mode != "processed_logprobs":
            yield (
                f"returns {self.logprobs_mode}, which are not those of the distribution that it "
                "samples from. Start it with --logprobs-mode processed_logprobs"
            )
        if self.generation_config != "vllm":
            yield (
                "adds sampling parameters of the checkpoint's generation_config.json. Start it "
                "with --generation-config vllm"
            )
        if self.logits_processors:
            yield (
                f"changes logits by {', '.join(self.logits_processors)}, which the trainer cannot "
                "repeat. Start it without --logits-processors"
            )
        rank = settings.adapter_rank
        if rank is not None and rank > self.adapter_rank:
            accepted = next(each for each in ADAPTER_RANKS if each >= rank)
            limit = (
                f"adapters up to rank {self.adapter_rank}" if self.adapter_rank else "no adapters"
            )
            yield (
                f"accepts {limit}. Set VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and start it with "
                f"--enable-lora --max-lora-rank {accepted}"
            )
        tied = model.config.get_text_config().tie_word_embeddings
        if self.device == "cpu" and (model.moe or tied) and self.extension != EXTENSION:
            yield (
                "computes on a CPU, where vLLM corrupts experts and keeps a head that is tied to "
                "the embedding when it loads weights. Start it with --worker-extension-cls "
                f"{EXTENSION}, which prevents that"
            )


class ComparingServerEngine(ServerEngine):
    """A server whose workers can compare their tensors with the last sync."""

    compares_cheaply = False

    def differing_tensors(self, weights: WeightSource) -> list[str]:
        """Names in vLLM of tensors that differ from a fresh load of the last sync."""
        assert isinstance(self._api, VllmServer)
        if self._current is None or weights.kind == "adapter":
            return []
        return drive(self._api.differing(self._current))


def connect(
    settings: VllmSettings, policy: Policy, model: ServedModel, *, progress: Progress
) -> ServerEngine:
    """The engine on the server at `settings.url`.

    Raises:
        UserError: the server cannot be reached, or was started with unsuitable options.
    """
    assert settings.url is not None
    client = ServerClient.of(settings.url, settings.api_key_variable, settings.timeout)
    options = drive(_options(client))
    fault = options.fault(settings, model)
    if fault is not None:
        raise UserError(f"The vLLM server at {client.url} {fault}.")
    extended = options.extension == EXTENSION
    api = VllmServer(
        client,
        end_token_ids=model.end_token_ids,
        reload="steadyrl_reload" if extended else RELOAD,
        adapter_rank=options.adapter_rank,
    )
    engine = ComparingServerEngine if extended else ServerEngine
    return engine(
        api,
        model,
        weights_of(policy, without_adapter=settings.adapter_rank is not None),
        EngineCapabilities(
            max_positions=options.max_positions,
            routing=model.moe is not None and options.routes,
            exact_draws=False,
            scoring=True,
            adapters=settings.adapter_rank is not None,
        ),
        SyncFolders(model, settings.sync_folder),
        max_running=settings.max_running,
        patience=settings.patience,
        progress=progress,
    )


async def _options(client: ServerClient) -> ServerOptions:
    """Asks the server for its options."""
    remedies = {404: "Start it with VLLM_SERVER_DEV_MODE=1: weights cannot be synced otherwise"}
    with describing_itself(client.url, "vLLM", "0.30", remedies):
        reply = await client.get("/server_info?config_format=json")
        return ServerOptions.of(reply["vllm_config"])
