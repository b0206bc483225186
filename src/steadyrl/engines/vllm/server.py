"""vLLM's HTTP interface, version 0.30, with its development endpoints (`VLLM_SERVER_DEV_MODE=1`).

POST /v1/completions            token ids in and out, log-probabilities, routes; prompt scores
POST /pause, /resume            aborts running requests and holds new ones back
POST /collective_rpc            loads a checkpoint folder in every worker
POST /v1/load_lora_adapter      loads a LoRA adapter under a new name
POST /reset_prefix_cache        drops keys and values of the old weights
GET  /weight_info               tag of the weights, "default" after a restart
POST /update_weight_version     sets it
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.base.http import ServerError
from steadyrl.engines.answers import Answer, EngineOutputError
from steadyrl.engines.protocol import Sampling
from steadyrl.engines.servers.client import ServerClient
from steadyrl.engines.servers.protocol import Reply, SyncedWeights
from steadyrl.engines.vllm.outputs import decode_routes, prompt_scores
from steadyrl.engines.vllm.weights import check_adapter

RELOAD = "reload_weights"
"""vLLM's own RPC for loading a folder."""

GIVEN_UP = ("abort", "error", None)
"""Finish reasons of requests that the server gave up."""

_NO_DEFAULTS = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "ignore_eos": True,  # stop_token_ids lists all end tokens
    "return_token_ids": True,
    "return_tokens_as_token_ids": True,
    "skip_special_tokens": False,
}
"""Sent with every request, since `--override-generation-config` gives a server other defaults."""


class VllmServer:
    """A vLLM server.

    Args:
        client: Requests to it.
        end_token_ids: Tokens that end an answer.
        reload: Name of the RPC that loads a folder: vLLM's own, or that of `WorkerExtension`.
        adapter_rank: Maximum rank of adapters; 0 if there are none.
    """

    name = "vLLM"

    def __init__(
        self,
        client: ServerClient,
        *,
        end_token_ids: set[int],
        reload: str,
        adapter_rank: int,
    ) -> None:
        self._client = client
        self._end_token_ids = sorted(end_token_ids)
        self._reload, self._adapter_rank = reload, adapter_rank
        self._loaded: tuple[Path, str] | None = None
        self._adapter: str | None = None

    @property
    def url(self) -> str:
        """Address of the server."""
        return self._client.url

    async def generate(
        self, prompt_ids: list[int], sampling: Sampling, seed: int, weights: SyncedWeights
    ) -> Reply[Answer]:
        """Samples one answer."""
        choice = await self._complete(
            weights,
            prompt=prompt_ids,
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or 0,
            seed=seed,
            stop_token_ids=self._end_token_ids,
            logprobs=0,
        )
        return Reply(value=answer_in(choice), tag=None)

    async def score(
        self, tokens: Int[Tensor, " T"], weights: SyncedWeights
    ) -> Reply[Float[Tensor, " T"]]:
        """Log-probability of each token given its predecessors; 0 for the first one."""
        choice = await self._complete(
            weights,
            prompt=tokens.tolist(),
            max_tokens=1,
            prompt_logprobs=0,
            routed_experts_prompt_start=len(tokens),
        )
        return Reply(value=prompt_scores(tokens, choice.get("prompt_logprobs")), tag=None)

    async def load(self, weights: SyncedWeights) -> None:
        """Aborts running requests, replaces the weights, drops caches and sets the tag."""
        await self._client.command("/pause?mode=abort")
        try:
            known, self._loaded = self._loaded, None
            base_stays = known == (weights.folder, await self.loaded_tag())
            # Before the weights: if the server restarts in between, it forgets the tag.
            await self._client.command("/update_weight_version", {"new_version": weights.tag})
            if not base_stays:
                await self._call_workers(self._reload, str(weights.folder), tag=weights.tag)
            await self._load_adapter(weights)
            reply = await self._client.post("/reset_prefix_cache")
            if reply != {"success": True}:
                raise ServerError("kept its prefix cache during a sync", passing=True)
            if await self.loaded_tag() != weights.tag:
                raise ServerError("restarted during a sync", passing=True)
            self._loaded = (weights.folder, weights.tag)
        finally:
            await self._client.command("/resume")

    async def loaded_tag(self) -> str:
        """Tag of the weights on the server; "default" if it has restarted since the last load."""
        reply = await self._client.get("/weight_info")
        match reply:
            case {"weight_version": str(tag)}:
                return tag
        raise ServerError(f"sent an invalid reply to /weight_info: {reply!r:.80}", passing=False)

    async def differing(self, weights: SyncedWeights) -> list[str]:
        """Names of the tensors that differ from a fresh load of `weights`, by `WorkerExtension`."""
        found = await self._call_workers("steadyrl_differing", str(weights.folder), tag=weights.tag)
        return sorted({name for names in found for name in names})

    async def _complete(self, weights: SyncedWeights, **question: Any) -> dict[str, Any]:
        """The only choice of the reply to a completion request."""
        if weights.adapter is not None:
            question["model"] = weights.tag
        reply = await self._guard_adapter(weights, {**_NO_DEFAULTS, **question})
        match reply:
            case {"choices": [{"finish_reason": reason}]}:
                if reason in GIVEN_UP:
                    raise ServerError(f"gave up a request ({reason})", passing=True)
                return reply["choices"][0]
        raise EngineOutputError(f"The engine returned no choice: {reply!r:.200}")

    async def _guard_adapter(self, weights: SyncedWeights, question: dict[str, Any]) -> Any:
        try:
            return await self._client.post("/v1/completions", question)
        except ServerError as error:
            if error.status == 404 and weights.adapter is not None:
                # After a restart the server does not know the adapter.
                raise ServerError(str(error), passing=True, status=404) from error
            raise

    async def _load_adapter(self, weights: SyncedWeights) -> None:
        """Loads an adapter under a new name: vLLM keys its prefix cache by the name."""
        if self._adapter is not None:
            name, self._adapter = self._adapter, None
            with suppress(ServerError):  # a server that has restarted does not know it
                await self._client.command("/v1/unload_lora_adapter", {"lora_name": name})
        if weights.adapter is not None:
            config = json.loads((weights.adapter / "adapter_config.json").read_text("utf-8"))
            check_adapter(config, self._adapter_rank)
            adapter = {"lora_name": weights.tag, "lora_path": str(weights.adapter)}
            await self._client.command("/v1/load_lora_adapter", adapter)
            self._adapter = weights.tag

    async def _call_workers(self, method: str, folder: str, *, tag: str) -> list[Any]:
        """The results of all workers."""
        question = {"method": method, **_arguments(method, folder)}
        try:
            reply = await self._client.post("/collective_rpc", question)
        except ServerError as error:
            if error.status == 500 and await self.loaded_tag() == tag:
                # The server is alive, so another attempt would fail as well.
                raise ServerError(str(error), passing=False, status=500) from error
            raise
        match reply:
            case {"results": [*results]}:
                return results
        raise ServerError(f"sent an invalid reply to /collective_rpc: {reply!r:.80}", passing=False)


def _arguments(method: str, folder: str) -> dict[str, Any]:
    if method == RELOAD:
        return {"kwargs": {"weights_path": folder}}
    return {"args": [folder]}


def answer_in(choice: dict[str, Any]) -> Answer:
    """The answer in a choice of `/v1/completions`.

    Raises:
        EngineOutputError: tokens or log-probabilities are missing, or routes are unreadable.
    """
    match choice:
        case {
            "finish_reason": str(reason),
            "token_ids": [*token_ids],
            "logprobs": {"token_logprobs": [*logprobs]},
        }:
            return Answer(
                token_ids=token_ids,
                logprobs=logprobs,
                finish_reason=reason,
                routed_experts=decode_routes(choice.get("routed_experts")),
            )
    raise EngineOutputError(
        "The engine returned no token ids or no log-probabilities. Use vLLM 0.30 or newer."
    )
