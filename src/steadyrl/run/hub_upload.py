"""Uploads to the Hugging Face hub, whose failures are one sentence."""

from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from steadyrl.base.errors import UserError, describe_error

WEIGHTS = ["*.safetensors", "*.safetensors.index.json", "adapter_*"]
"""Files of an earlier upload that are removed unless the new one has them: a repository that held
shards or an adapter would be loaded wrongly else."""

STATUSES = {
    401: "the token was refused. Run 'hf auth login' again",
    403: "the token may not write there. Give a token with write access, or another name",
    404: "the hub knows no such account, or the token may not see it. Check the name",
}


def check_repository(repo: str) -> None:
    """Returns if `repo` is a name under which this machine could upload.

    Raises:
        UserError: the name is not valid, there is no token, or the hub is switched off.
    """
    check_name(repo)
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            "HF_HUB_OFFLINE is set, so nothing can be uploaded. Unset it, or use 'steadyrl push' "
            "with --dry-run."
        )
    if get_token() is None:
        raise UserError(
            "There is no Hugging Face token. Run 'hf auth login', or set HF_TOKEN to a token with "
            "write access."
        )


def check_name(repo: str) -> None:
    """Returns if `repo` has the form owner/name.

    Raises:
        UserError: it has another form.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"{repo!r} is not a repository's name: {_sentence(error)}") from error
    if "/" not in repo:
        raise UserError(f"{repo!r} names no owner. Give owner/name, as in your-account/{repo}.")


def upload(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """The address of `repo`, which holds what `folder` holds. It is made if there is none.

    Raises:
        UserError: nothing or not all could be uploaded, and why.
    """
    api = HfApi()
    try:
        _prepare(api, repo, private=private)
        api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=message, delete_patterns=WEIGHTS
        )
    except UserError:
        raise
    except Exception as error:  # of a client that has exceptions of several libraries
        raise UserError(f"{repo} was not uploaded: {_reason(error)}.") from error
    return f"{constants.ENDPOINT}/{repo}"


def _prepare(api: HfApi, repo: str, *, private: bool) -> None:
    """Makes the repository. One that is public already is not taken for a private one."""
    try:
        found = api.model_info(repo)
    except RepositoryNotFoundError:
        api.create_repo(repo, private=private or None, exist_ok=True)
        return
    if private and not found.private:
        raise UserError(
            f"{repo} exists and is public, but --private was given. Make it private in its "
            "settings on the hub, or give another name."
        )


def _reason(error: BaseException) -> str:
    """Why the hub did not take the upload, as the rest of a sentence."""
    while not isinstance(error, HfHubHTTPError | OfflineModeIsEnabled):
        inner = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if inner is None:
            return f"{constants.ENDPOINT} cannot be reached ({describe_error(error)})"
        error = inner
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set. Unset it"
    status = error.response.status_code
    said = error.server_message
    return STATUSES.get(status) or f"the hub answered with status {status}" + (
        f" ({' '.join(said.split()).rstrip('.')})" if said else ""
    )


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return f"{text}. Give owner/name."
