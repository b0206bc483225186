"""Words of the command line as values, in the form in which YAML writes the type of the field."""

from collections.abc import Sequence
from typing import Any, get_origin

import yaml
from pydantic.fields import FieldInfo

from steadyrl.base.errors import UserError
from steadyrl.base.setting_texts import atoms, is_list, values_text

NONE = ("none", "null")
TRUTHS = {"true": True, "false": False}


def read_value(field: FieldInfo, written: str, given: Sequence[str]) -> tuple[Any, list[str]]:
    """The value of the option `written`, and the words among those `given` that are left over.

    Only what YAML would read as another type is converted; pydantic judges the rest. A switch takes
    true or false, or no word at all.

    Raises:
        UserError: there is no word, or YAML reads it as something else.
    """
    kinds, words = list(atoms(field.annotation)), list(given)
    if bool in kinds:
        if words and words[0].lower() in TRUTHS:
            return TRUTHS[words[0].lower()], words[1:]
        return True, words
    if not words:
        raise UserError(f"{written} needs a value: {values_text(field)}.")
    if None in kinds and words[0].lower() in NONE:
        return None, words[1:]
    origins = [get_origin(kind) or kind for kind in kinds]
    if is_list(field):
        if len(words) == 1 and words[0].startswith("["):
            return _yaml(written, words[0], list), []
        return [_yaml(written, w, dict) if w.startswith("{") else _scalar(w) for w in words], []
    if dict in origins:
        return _yaml(written, words[0], dict), words[1:]
    return (_scalar(words[0]) if int in kinds or float in kinds else words[0]), words[1:]


def read_block(written: str, text: str) -> dict[str, Any]:
    """The fields of a block that the option `written` gives in one line.

    Raises:
        UserError: YAML reads it as something else.
    """
    fields: dict[str, Any] = _yaml(written, text, dict)
    return fields


def _scalar(word: str) -> Any:
    """A number as in YAML, or the word itself."""
    try:
        value = yaml.safe_load(word)
    except yaml.YAMLError:
        return word
    return value if isinstance(value, int | float) and not isinstance(value, bool) else word


def _yaml(written: str, text: str, kind: type) -> Any:
    """The value of `text`, of type `kind`, parsed as YAML."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if not isinstance(value, kind):
        noun, example = ("names and values", "'{digits: 4}'")
        if kind is list:
            noun, example = ("a list", "'[0.9, 0.95]'")
        raise UserError(
            f"{written} is {text!r}, which YAML does not read as {noun}. Write it in one line and "
            f"in quotes, such as {example}."
        )
    return value
