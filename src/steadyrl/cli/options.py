"""Options of the command line: words become values of settings, which pydantic judges.

    --steps 30                              a field of the settings
    --algorithm.objective.clip-low 0.1      of a block in them; dashes or underscores
    --algorithm.objective gspo              another variant of a block, with its own defaults
    --algorithm.objective.name gspo         the same
    --environment my_tasks:Reverse          a class of your own
    --cold-start none                       no such block
    --engine.overlap                        true; the same as --engine.overlap true
    --environment.knobs '{max_digits: 1}'   names and values, as in one line of YAML
    --optimizer '{eps: 1e-6, schedule: cosine}'      several fields of a block

Variants are chosen first, whatever the order of the options; of the same option twice, the last
counts.
"""

import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from steadyrl.base.errors import UserError
from steadyrl.base.setting_texts import atoms, is_list, settings_in
from steadyrl.base.settings import Settings
from steadyrl.base.variants import Variants, variants_of
from steadyrl.cli.option_help import command_help
from steadyrl.cli.option_names import dashed, option_names, positionals, unknown_option
from steadyrl.cli.option_values import NONE, read_block, read_value
from steadyrl.run.config_errors import describe

Values = dict[str, Any]
"""Values of settings by field, nested as the settings are."""

Options = TypeVar("Options", bound=Settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option, and the words up to the next one.

    Example:
        Option(written="--engine.max-running", path=("engine", "max_running"), words=("8",))
    """

    written: str
    path: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def chosen(self) -> "Option":
        """The option without `name` at its end: a block is chosen by either."""
        ends_in_name = len(self.path) > 1 and self.path[-1] == "name"
        return replace(self, path=self.path[:-1]) if ends_in_name else self


def split_options(arguments: Sequence[str]) -> tuple[list[str], list[Option]]:
    """The words before the first option, and the options."""
    first: list[str] = []
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            written, equals, value = argument.partition("=")
            found.append((written, [value] if equals else []))
        else:
            (found[-1][1] if found else first).append(argument)
    return first, [
        Option(
            written=written,
            path=tuple(written.removeprefix("--").replace("-", "_").split(".")),
            words=tuple(words),
        )
        for written, words in found
    ]


def without_help(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The other arguments, and whether help is asked for."""
    rest = [argument for argument in arguments if argument not in ("-h", "--help")]
    return rest, len(rest) < len(arguments)


def override(
    kind: type[Settings], values: Mapping[str, Any], options: Sequence[Option]
) -> tuple[Values, list[str]]:
    """`values` of the settings `kind` with what `options` give, not validated.

    Returns the words that belong to no option, too.

    Raises:
        UserError: there is no such option or variant, or a value cannot be read.
    """
    changed, left = deepcopy(dict(values)), list[str]()
    chosen = [option.chosen for option in options]
    for option in sorted(chosen, key=lambda option: len(option.path)):
        try:
            left += _set(kind, changed, option)
        except _UnknownOptionError as error:
            known = option_names(kind, changed)
            text = unknown_option(option.written, option.path, error.depth, known, error.owners)
            raise UserError(text) from error
    return changed, left


class _UnknownOptionError(Exception):
    """Nothing has the name at `depth`, but the variants `owners` of the block would have it."""

    def __init__(self, depth: int, name: str, block: Variants | None) -> None:
        super().__init__()
        self.depth = depth
        kinds = {} if block is None else block.built_in
        self.owners = [own for own, kind in kinds.items() if _field(kind, name) is not None]


def _set(kind: type[Settings], values: Values, option: Option) -> list[str]:
    """Sets the value of `option`; returns the words that are not part of it."""
    *parents, leaf = option.path
    variants: Variants | None = None
    for depth, part in enumerate(parents):
        field = _field(kind, part)
        block = field is not None and not is_list(field)
        below = settings_in(field, values.get(part)) if field is not None and block else None
        if field is None or below is None:
            raise _UnknownOptionError(depth, part, variants)
        variants = variants_of(field)
        if not isinstance(values.get(part), dict):
            values[part] = {}
        kind, values = below, values[part]
    field = _field(kind, leaf)
    if field is None:
        raise _UnknownOptionError(len(parents), leaf, variants)
    if not is_list(field) and settings_in(field) is not None:
        return _choose(field, values, leaf, option)
    name = leaf if leaf in kind.model_fields else f"{leaf}_"
    values[name], left = read_value(field, option.written, option.words)
    return left


def _field(kind: type[Settings], name: str) -> FieldInfo | None:
    """The field of this name, to which an underscore is added where Python reserves the name."""
    return kind.model_fields.get(name) or kind.model_fields.get(f"{name}_")


def _choose(field: FieldInfo, values: Values, name: str, option: Option) -> list[str]:
    """Makes the block `name` the variant that `option` names, unless it is that one already."""
    variants, optional = variants_of(field), None in atoms(field.annotation)
    known = [*(variants.names() if variants else []), *(["none"] if optional else [])]
    if not option.words:
        raise UserError(f"{option.written} needs a value: {', '.join(known) or 'see --help'}.")
    text, *left = option.words
    if text.startswith("{"):
        values[name] = _with_block(variants, values.get(name), read_block(option.written, text))
    elif optional and text.lower() in NONE:
        values[name] = None
    elif variants is None:
        kind = settings_in(field)
        assert kind is not None
        example = f"{option.written}.{dashed(next(iter(kind.model_fields)))}"
        raise UserError(
            f"{option.written} is a block of settings, got {text!r}. Set one of them, such as "
            f"{example}, or several in one line, as '{{{next(iter(kind.model_fields))}: VALUE}}'."
        )
    else:
        fields = variants.fields_of(text)
        present = values.get(name)
        if not _is_same(variants, present, fields, option):
            values[name] = fields
    return left


def _with_block(variants: Variants | None, present: Any, block: Values) -> Values:
    """The values `present` with those of `block`, which may be of another variant."""
    others = present if isinstance(present, dict) else {}
    is_other = variants is not None and block.get("name", others.get("name")) != others.get("name")
    return block if is_other else {**others, **block}


def _is_same(variants: Variants, present: Any, fields: Mapping[str, str], option: Option) -> bool:
    """Whether the values `present` are of the variant that `fields` name, and stay."""
    try:
        chosen = variants.find(fields["name"])
        if not isinstance(present, dict) or len(fields) > 1:
            return False
        if chosen is variants.wrapper:
            return present.get("name") == fields["name"]
        return variants.find(present["name"]) is chosen
    except UserError as error:
        raise UserError(f"{option.written}: {error}") from error


def read_options(kind: type[Options], arguments: Sequence[str], *, program: str) -> Options:
    """The options of a command.

    Prints help and exits where it is asked for.

    Raises:
        UserError: an option is unknown, missing or not valid.
    """
    arguments, wants_help = without_help(arguments)
    if wants_help:
        print(command_help(kind, program))
        raise SystemExit(0)
    words, options = split_options(arguments)
    values, left = override(kind, {}, options)
    take_positionals(kind, values, [*words, *left], program)
    return _validated(kind, values, program)


def own_options(
    kind: type[Options], options: Sequence[Option], *, program: str
) -> tuple[Options, list[Option]]:
    """The options of the command itself among `options`, and the others.

    Raises:
        UserError: one of its own is missing or not valid.
    """
    is_own = [len(option.path) == 1 and bool(_field(kind, option.path[0])) for option in options]
    own = [option for option, mine in zip(options, is_own, strict=True) if mine]
    values, left = override(kind, {}, own)
    refuse_words(left, program)
    others = [option for option, mine in zip(options, is_own, strict=True) if not mine]
    return _validated(kind, values, program), others


def _validated(kind: type[Options], values: Values, program: str) -> Options:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{describe(error, kind, values)}. See {program} --help.") from error


def take_positionals(
    kind: type[Settings], values: Values, words: Sequence[str], program: str
) -> None:
    """Gives `words` to the positional fields of `kind`, in order; one that is a tuple takes all.

    Raises:
        UserError: there are more words, or fewer.
    """
    left = list(words)
    for name, field in positionals(kind):
        many = any((get_origin(part) or part) is tuple for part in atoms(field.annotation))
        if left:
            values[name] = left if many else left.pop(0)
            left = [] if many else left
        elif field.is_required():
            raise UserError(f"'{program}' needs {name.upper()}. See {program} --help.")
    refuse_words(left, program)


def refuse_words(words: Sequence[str], program: str) -> None:
    """Returns if there are none.

    Raises:
        UserError: there are words that belong to no option.
    """
    if words:
        raise UserError(
            f"{words[0]!r} belongs to no option. Options are written --NAME VALUE, and switches "
            f"take true or false. See {program} --help."
        )


def script_options(kind: type[Options]) -> Options:
    """The options of a script, from the command line. Exits where they cannot be used."""
    try:
        return read_options(kind, sys.argv[1:], program=f"python {sys.argv[0]}")
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
