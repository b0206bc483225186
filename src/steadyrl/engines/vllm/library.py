"""Access to the vLLM library in this process."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from steadyrl.base.errors import UserError, describe_error
from steadyrl.base.extras import require_extra
from steadyrl.engines.protocol import Sampling

_ENVIRONMENT = {
    # One process: weights are passed in memory, and this process runs the steps.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Otherwise vLLM pins the threads of this process to cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    # A reload warns about every layer without weights.
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""Defaults of vLLM's environment variables."""


def launch(arguments: dict[str, Any]) -> Any:
    """A `vllm.LLMEngine` in this process, which has computed a first answer.

    Args:
        arguments: Arguments for `vllm.EngineArgs`.

    Raises:
        UserError: vLLM is not installed, rejects the arguments, or cannot compute the model.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    require_extra("vllm", "vllm")
    import vllm

    with _threads_unchanged():
        try:
            llm = vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**arguments))
            try:
                _compute_tokens(llm)  # some kernels reject the model only then
            except BaseException:
                shut_down(llm)
                raise
            return llm
        except Exception as error:
            raise UserError(
                f"vLLM {vllm_version()} cannot serve this model: {describe_error(error)}. Correct "
                "engine.options, or use the engine 'local'."
            ) from error


def _compute_tokens(llm: Any) -> None:
    """Reads a prompt, and decodes."""
    llm.add_request("first", {"prompt_token_ids": [0]}, _parameters(max_tokens=2))
    while llm.has_unfinished_requests():
        llm.step()


def shut_down(llm: Any) -> None:
    """Shuts down an engine that `launch` returned."""
    llm.engine_core.shutdown()
    gc.collect()


@contextmanager
def _threads_unchanged() -> Iterator[None]:
    """Restores `torch.set_num_threads`, which vLLM replaces on the CPU."""
    own = torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = own


def vllm_version() -> str:
    """Version of the installed vLLM, from the package `vllm` or `vllm-cpu`."""
    for package in ("vllm", "vllm-cpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "(unknown version)"


def drawing(
    sampling: Sampling,
    seed: int,
    end_token_ids: set[int],
    *,
    reported: bool = False,
    candidates: int = 0,
) -> Any:
    """`vllm.SamplingParams` for sampling one answer.

    Args:
        reported: Whether every step outputs the tokens so far.
        candidates: Number of most probable tokens to output in place of each.
    """
    return _parameters(
        reported=reported,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k or 0,
        max_tokens=sampling.max_new_tokens,
        seed=seed,
        stop_token_ids=sorted(end_token_ids),
        logprobs=candidates,
    )


def scoring() -> Any:
    """`vllm.SamplingParams` for scoring a prompt."""
    return _parameters(max_tokens=1, prompt_logprobs=0)


def _parameters(*, reported: bool = False, **values: Any) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        ignore_eos=True,  # stop_token_ids lists all end tokens
        detokenize=False,
        output_kind=RequestOutputKind.CUMULATIVE if reported else RequestOutputKind.FINAL_ONLY,
        **values,
    )
