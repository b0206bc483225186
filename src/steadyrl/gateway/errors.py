"""Errors of the gateway in OpenAI's schema."""

from typing import Any

from steadyrl.base.errors import UserError, describe_error
from steadyrl.base.text import well_formed


class ApiError(Exception):
    """A request that is refused or failed.

    Args:
        message: What is wrong, what was got and what to do.
        status: HTTP status.
        param: Field of the request that is wrong.
        code: Name of the error for programs.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = well_formed(message)
        self.status = status
        self.param = None if param is None else well_formed(param)
        self.code = code

    def to_json(self) -> dict[str, Any]:
        """The body of the reply."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": "rate_limit_error" if self.status == 429 else kind,
                "param": self.param,
                "code": self.code,
            }
        }


def as_api_error(error: Exception) -> ApiError:
    """A failure of any kind in OpenAI's schema."""
    match error:
        case ApiError():
            return error
        case RecursionError():
            return ApiError("The request is nested too deeply.", code="too_deep")
        case UserError():
            return ApiError(str(error))
        case _:
            return ApiError(f"The server failed: {describe_error(error)}.", status=500)
