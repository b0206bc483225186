"""Formats of dumps: which keys tell them apart, and what writes the missing ones.

The readers follow the sources of the versions named in `FORMATS`.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from steadyrl.analysis.dumps.files import Content
from steadyrl.analysis.dumps.own_reader import OWN_COLUMNS, read_own
from steadyrl.analysis.dumps.padded_readers import read_openrlhf, read_trl, read_verl
from steadyrl.analysis.dumps.record import Dump
from steadyrl.analysis.dumps.row_readers import read_nemo_rl, read_prime_rl, read_slime
from steadyrl.base.errors import UserError

Read = Callable[[Content, str], Dump]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A layout of dumps.

    Example:
        Format(name="steadyrl", version="1", keys=(frozenset({"tokens"}),), read=read_own,
               setting="Write tokens.")
    """

    name: str
    version: str
    """Version of the framework whose source was read."""

    keys: tuple[frozenset[str], ...]
    """Sets of keys of which one is there in every dump of this format."""

    read: Read
    setting: str
    """What to switch on in the framework to get such a dump, in one sentence."""


FORMATS = (
    Format(
        name="verl",
        version="0.9.1",
        keys=(
            frozenset({"responses", "rollout_log_probs"}),
            frozenset({"responses", "old_log_probs"}),
        ),
        read=read_verl,
        setting=(
            "Set actor_rollout_ref.rollout.calculate_log_probs=True, and save the batch after "
            "old_log_probs are computed: torch.save(dict(batch.batch), 'step.pt')."
        ),
    ),
    Format(
        name="slime",
        version="0.3.1 (miles 0.1.0)",
        keys=(frozenset({"samples", "rollout_id"}), frozenset({"rollout_data", "rollout_id"})),
        read=read_slime,
        setting=(
            "Add --save-debug-rollout-data for the engine's side and --save-debug-train-data for "
            "the trainer's, or --dump-details for both."
        ),
    ),
    Format(
        name="trl",
        version="1.16.0",
        keys=(frozenset({"prompt_ids", "completion_ids"}),),
        read=read_trl,
        setting=(
            "Set use_vllm=True with vllm_importance_sampling_correction=True, and save the tensors "
            "that _generate_and_score_completions returns: torch.save({k: v for k, v in "
            "output.items() if isinstance(v, torch.Tensor)}, 'step.pt')."
        ),
    ),
    Format(
        name="openrlhf",
        version="0.11.0",
        keys=(frozenset({"sequences", "action_mask"}),),
        read=read_openrlhf,
        setting=(
            "Set algo.advantage.is_correction_enable so that vLLM returns log-probabilities, "
            "and save the tensors of an Experience: torch.save({k: v for k, v in "
            "vars(experience).items() if isinstance(v, torch.Tensor)}, 'step.pt')."
        ),
    ),
    Format(
        name="prime-rl",
        version="0.8.1.dev67, token export 1",
        keys=(frozenset({"token_ids", "inference_logprobs", "trainer_logprobs"}),),
        read=read_prime_rl,
        setting="Set trainer.enable_token_export = true.",
    ),
    Format(
        name="nemo-rl",
        version="0.6.0",
        keys=(frozenset({"token_ids", "generation_logprobs", "prev_logprobs"}),),
        read=read_nemo_rl,
        setting=(
            "Give the folder of logger.log_dir: its train_data_step*.jsonl hold both columns "
            "unless env.should_log_nemo_gym_responses is set."
        ),
    ),
    Format(
        name="steadyrl",
        version="this version",
        keys=(
            frozenset({"tokens", "rollout_logprobs"}),
            frozenset({"tokens", "trainer_logprobs"}),
        ),
        read=read_own,
        setting=(
            "Write the columns tokens, response_mask, rollout_logprobs and trainer_logprobs, or "
            "name yours with --columns."
        ),
    ),
)

TEXT_ONLY: Mapping[str, frozenset[str]] = {
    "verl": frozenset({"input", "output", "score"}),
    "trl": frozenset({"prompt", "completion", "advantage"}),
}
"""Keys of logs of texts, which have no token in them."""

FORMAT_NAMES = tuple(known.name for known in FORMATS)


def read_dump(
    content: Content,
    name: str,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Dump:
    """The dump in `content`.

    Args:
        name: Name of the file, for messages.
        format: A name of `FORMATS`, or `auto`.
        columns: Our names of columns, with the names that the file uses.
        notes: What was left out of the file, as `read_content` tells it.

    Raises:
        UserError: the layout is not known, or a column is missing.
    """
    if columns:
        content = _renamed(content, columns, name)
    keys = _keys(content)
    if not keys:
        raise UserError(f"{name} is empty. Give a dump of a step that sampled something.")
    candidates = FORMATS if format == "auto" else (_format(format),)
    for known in candidates:
        if any(required <= keys for required in known.keys):
            return replace(known.read(content, name), notes=tuple(notes))
    raise UserError(_not_known(keys, name, candidates))


def _not_known(keys: Set[str], name: str, candidates: tuple[Format, ...]) -> str:
    """Why a file with these keys is none of `candidates`, and what to do."""
    for text_only, required in TEXT_ONLY.items():
        if required <= keys:
            return (
                f"{name} is a log of texts by {text_only}, without tokens or log-probabilities. "
                f"{setting_of(text_only)}"
            )
    found = ", ".join(sorted(keys)[:12]) or "nothing"
    nearly = [(known, sorted(required - keys)) for known in candidates for required in known.keys]
    known, missing = min(nearly, key=lambda candidate: len(candidate[1]))
    if len(candidates) == 1 or len(missing) == 1:
        return (
            f"{name} has no {' and no '.join(missing)}, which dumps of {known.name} "
            f"{known.version} have; it holds {found}. {known.setting}"
        )
    versions = ", ".join(f"{known.name} {known.version}" for known in FORMATS[:-1])
    return (
        f"{name} has no layout that is known: it holds {found}. Known are the dumps of {versions}. "
        "Name its columns with --columns '{tokens: NAME, response_mask: NAME, rollout_logprobs: "
        "NAME, trainer_logprobs: NAME}'."
    )


def setting_of(format: str) -> str:
    """What to switch on in a framework for a full dump, in one sentence."""
    return _format(format).setting


def _format(name: str) -> Format:
    for known in FORMATS:
        if known.name == name:
            return known
    raise UserError(f"--format is {name!r}. Choose auto or one of {', '.join(FORMAT_NAMES)}.")


def _keys(content: Content) -> Set[str]:
    if isinstance(content, dict):
        return content.keys()
    return content[0].keys() if content else set()


def _renamed(content: Content, columns: Mapping[str, str], name: str) -> Content:
    unknown = [ours for ours in columns if ours not in OWN_COLUMNS]
    if unknown:
        raise UserError(
            f"--columns names {unknown[0]!r}, which is not a column. The columns are "
            f"{', '.join(OWN_COLUMNS)}."
        )
    keys = _keys(content)
    absent = [theirs for theirs in columns.values() if theirs not in keys]
    if absent:
        raise UserError(
            f"--columns names {absent[0]!r}, which {name} does not have. It has "
            f"{', '.join(sorted(keys)[:20])}."
        )

    def chosen(row: dict[str, Any]) -> dict[str, Any]:
        named = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
        kept = {key: row[key] for key in OWN_COLUMNS if key in row and key not in named}
        return kept | named

    return chosen(content) if isinstance(content, dict) else [chosen(row) for row in content]
