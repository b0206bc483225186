"""SGLang's native HTTP interface, version 0.5.23.

POST /generate                    token ids in and out, log-probabilities, routes, weight version
POST /update_weights_from_disk    aborts requests, loads a checkpoint folder, sets the version
POST /flush_cache                 drops keys and values of the old weights
GET  /model_info                  weight version, "default" after a restart
"""

import base64
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steadyrl.base.http import ServerError
from steadyrl.engines.answers import Answer, EngineOutputError, check_finite
from steadyrl.engines.protocol import Sampling
from steadyrl.engines.servers.client import ServerClient
from steadyrl.engines.servers.protocol import Reply, SyncedWeights

ROUTE_DTYPE = np.dtype("<i4")
"""Experts are sent as raw little-endian 32-bit integers."""


class SglangServer:
    """An SGLang server.

    Args:
        client: Requests to it.
        end_token_ids: Tokens that end an answer.
        route_shape: Number of layers and of experts per token; None: routes are not requested.
    """

    name = "SGLang"

    def __init__(
        self,
        client: ServerClient,
        *,
        end_token_ids: set[int],
        route_shape: tuple[int, int] | None,
    ) -> None:
        self._client = client
        self._end_token_ids = sorted(end_token_ids)
        self._route_shape = route_shape

    @property
    def url(self) -> str:
        """Address of the server."""
        return self._client.url

    async def generate(
        self, prompt_ids: list[int], sampling: Sampling, seed: int, weights: SyncedWeights
    ) -> Reply[Answer]:
        """Samples one answer. The seed only has an effect under deterministic inference."""
        reply = await self._generate(
            prompt_ids,
            {
                "max_new_tokens": sampling.max_new_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k or -1,
                "stop_token_ids": self._end_token_ids,
                "sampling_seed": seed,
            },
            return_routed_experts=self._route_shape is not None,
        )
        meta = reply["meta_info"]
        logprobs = token_logprobs(meta.get("output_token_logprobs"))
        answer = Answer(
            token_ids=[token for _, token in logprobs],
            logprobs=[float("nan") if value is None else value for value, _ in logprobs],
            finish_reason=meta["finish_reason"]["type"],
            routed_experts=self._routes(meta.get("routed_experts")),
        )
        return Reply(value=answer, tag=meta["weight_version"])

    async def score(
        self, tokens: Int[Tensor, " T"], weights: SyncedWeights
    ) -> Reply[Float[Tensor, " T"]]:
        """Log-probability of each token given its predecessors; 0 for the first one."""
        reply = await self._generate(tokens.tolist(), {"max_new_tokens": 1}, logprob_start_len=0)
        meta = reply["meta_info"]
        found = token_logprobs(meta.get("input_token_logprobs"))
        if [token for _, token in found] != tokens.tolist():
            raise EngineOutputError(
                f"The engine returned scores of other tokens than the {len(tokens)} given ones."
            )
        scores = [float("nan") if value is None else value for value, _ in found[1:]]
        result = torch.tensor([0.0, *scores])
        check_finite(result)
        return Reply(value=result, tag=meta["weight_version"])

    async def load(self, weights: SyncedWeights) -> None:
        """Aborts running requests, replaces the weights, drops caches and sets the version."""
        update = {
            "model_path": str(weights.folder),
            "weight_version": weights.tag,
            "abort_all_requests": True,
            "flush_cache": True,
        }
        reply = await self._client.post("/update_weights_from_disk", update)
        match reply:
            case {"success": True}:
                pass
            case _:
                raise ServerError(f"loaded no weights: {reply!r:.200}", passing=False)
        await self._client.command("/flush_cache")
        if await self.loaded_tag() != weights.tag:
            raise ServerError("restarted during a sync", passing=True)

    async def loaded_tag(self) -> str:
        """Weight version; "default" if the server has restarted since the last load."""
        reply = await self._client.get("/model_info")
        match reply:
            case {"weight_version": str(tag)}:
                return tag
        raise ServerError(f"sent an invalid reply to /model_info: {reply!r:.80}", passing=False)

    async def _generate(
        self, input_ids: list[int], sampling: dict[str, Any], **options: Any
    ) -> dict[str, Any]:
        question = {
            "input_ids": input_ids,
            "sampling_params": {**_NO_DEFAULTS, **sampling},
            "return_logprob": True,
            **options,
        }
        reply = await self._client.post("/generate", question)
        match reply:
            case {"meta_info": {"finish_reason": {"type": "abort", **rest}}}:
                message = str(rest.get("message", "aborted"))
                raise ServerError(f"gave up a request ({message:.80})", passing=True)
            case {"meta_info": {"finish_reason": {"type": str()}, "weight_version": str()}}:
                return dict(reply)
        raise EngineOutputError(f"The engine returned an incomplete answer: {reply!r:.200}")

    def _routes(self, text: object) -> np.ndarray | None:
        """Routes of all layers; SGLang sends them without their shape."""
        if self._route_shape is None or text is None:
            return None
        try:
            raw = base64.b64decode(str(text), validate=True)
            return np.frombuffer(raw, dtype=ROUTE_DTYPE).reshape(-1, *self._route_shape)
        except ValueError as error:
            raise EngineOutputError(f"The engine returned unreadable routes: {error}.") from error


_NO_DEFAULTS = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "skip_special_tokens": False,
}
"""Sent with every request: neutral values of what a sampling parameter could change."""


def token_logprobs(entries: Any) -> list[tuple[float | None, int]]:
    """Log-probability and token id of each entry, which also has the token's text.

    Raises:
        EngineOutputError: there are none, or they have another format.
    """
    result: list[tuple[float | None, int]] = []
    for entry in entries or []:
        match entry:
            case [float() | int() | None as value, int(token), _]:
                result.append((value, token))
            case _:
                raise EngineOutputError(f"The engine returned an invalid score: {entry!r:.80}")
    if not result:
        raise EngineOutputError("The engine returned no log-probabilities.")
    return result
