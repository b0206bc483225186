"""What requests may ask for where a run trains on the tokens."""

from steadyrl.engines.protocol import Sampling
from steadyrl.gateway.errors import ApiError
from steadyrl.gateway.requests import SamplingRequest


def check_training(sampling: Sampling, request: SamplingRequest) -> None:
    """Returns if the tokens of the request can be trained on.

    Raises:
        ApiError: they cannot.
    """
    for name in ("temperature", "top_p", "top_k"):
        asked, required = getattr(request, name), getattr(sampling, name)
        if asked is not None and asked != required:
            raise _forbidden(
                name, asked, f"the run trains on tokens sampled with {name} {required}"
            )
    if request.seed is not None:
        raise _forbidden(
            "seed", request.seed, "seeds are the run's, so that the episodes of a group differ"
        )
    budget = request.budget
    if budget is not None and budget > sampling.max_new_tokens:
        raise _forbidden(
            "max_tokens", budget, f"sampling.max_new_tokens is {sampling.max_new_tokens}"
        )


def _forbidden(name: str, asked: object, reason: str) -> ApiError:
    return ApiError(
        f"{name} is {asked}, but {reason}. Leave it out, or change the run's configuration.",
        param=name,
        code="sampling_forbidden",
    )
