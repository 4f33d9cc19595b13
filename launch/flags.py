"""Config files and typed overrides: `--config=configs/tiny_cpu.py --config.grpo.lr=1e-4`.

A config file is Python that defines `CONFIG`, an instance of a frozen dataclass whose fields may be
dataclasses again. The types of the overrides are those of the fields, so a typo is an error that
names the nearest field.

    _CONFIG = define_config(TrainConfig)

    def main(argv: Sequence[str]) -> None:
        config = _CONFIG.load()

    if __name__ == "__main__":
        run(main)  # launch.errors.run
"""

import dataclasses
import difflib
import enum
import linecache
import runpy
import sys
import traceback
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from absl import flags

from launch.errors import OVERRIDE_FLAG, UserError, one_sentence

T = TypeVar("T")

# What a config file, which is a user's own code, may reasonably die of. Anything rarer is shown
# as it is, with its traceback.
CONFIG_FILE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
BOOL_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclasses.dataclass(frozen=True)
class ConfigFlag(Generic[T]):
    """The flags `--config=FILE` and `--config.a.b=value`; `load` them once they are parsed."""

    expected: type[T]

    def load(self) -> T:
        path = flags.FLAGS["config"].value
        if path is None:
            raise UserError("expected --config=FILE, a Python file that defines CONFIG.")
        return load_config(Path(path), flags.FLAGS[OVERRIDE_FLAG].value or [], self.expected)


def define_config(expected: type[T], default: str | None = None) -> ConfigFlag[T]:
    """Defines the config flags of a command, which `errors.run` then parses. Call it once."""
    flags.DEFINE_string(
        "config",
        default,
        f"A Python file that defines CONFIG, a {expected.__name__}, or FILE:NAME for one of its "
        "CONFIGS. One field is changed by --config.NAME.NAME=VALUE.",
        allow_override=True,
    )
    flags.DEFINE_multi_string(
        OVERRIDE_FLAG, [], "Where --config.NAME=VALUE is kept.", allow_override=True
    )
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS["config"])  # for --help
    return ConfigFlag(expected)


# --- the file ------------------------------------------------------------------------------


def load_config(path: Path, overrides: Sequence[str], expected: type[T]) -> T:
    """The `CONFIG` of a file with overrides (`"grpo.lr=1e-4"`) applied, later ones last. A path
    `FILE:NAME` takes the one of that name of the file's `CONFIGS`.
    """
    config = read_config_file(path)
    if not isinstance(config, expected):
        raise UserError(
            f"{path}: expected CONFIG of type {expected.__name__}, got {_describe(config)}."
        )
    _require_types(config, f"{path}: ")
    return override(config, overrides)


def _require_types(node: Any, place: str) -> None:
    """Python holds no field to its type, and a word that is none of a field's choices, or a text
    that should be a path, would be noticed late or never.
    """
    for name, annotation in _field_types(node).items():
        value = getattr(node, name)
        if not _is_a(value, annotation):
            raise UserError(
                f"{place}{name}: expected {type_name(annotation)}, got {_describe(value)}."
            )
        if dataclasses.is_dataclass(value):
            _require_types(value, f"{place}{name}.")


def _is_a(value: Any, annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, member) for member in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple and isinstance(value, tuple):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        return len(value) == len(arguments) and all(map(_is_a, value, arguments))
    if isinstance(value, bool):  # which Python takes for a number
        return annotation is bool
    kind = (int, float) if annotation is float else origin or annotation
    return isinstance(value, kind)


def read_config_file(path: Path) -> Any:
    """Runs a config file and returns its `CONFIG`, or one of its `CONFIGS`. It may import whatever
    its command can.
    """
    file, name = path, ""
    if not path.is_file() and ":" in path.name:
        stem, name = path.name.rsplit(":", 1)
        file = path.with_name(stem)
    if not file.is_file():
        raise UserError(f"{file}: no such config file.{_nearest_file(file)}")
    try:
        names = runpy.run_path(str(file), run_name="__config__")
    except CONFIG_FILE_ERRORS as error:
        raise UserError(
            f"{file}{_line_in(file, error)}: the config file failed with "
            f"{type(error).__name__}: {one_sentence(error)}"
        ) from error
    config = _named(file, name, names) if name or "CONFIG" not in names else names["CONFIG"]
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise UserError(f"{path}: expected CONFIG to be a dataclass, got {_describe(config)}.")
    return config


def _named(file: Path, name: str, names: Mapping[str, Any]) -> Any:
    """The one of a file's `CONFIGS`."""
    configs = names.get("CONFIGS")
    if not isinstance(configs, Mapping):
        wanted = "CONFIGS" if name else "CONFIG"
        raise UserError(f"{file}: expected a variable named {wanted}, got {_listed(names)}.")
    if name not in configs:
        choices = ", ".join(f"{file}:{one}" for one in configs)
        raise UserError(f"{file}: expected one of {choices}, got {name or 'no name'!r}.")
    return configs[name]


def _line_in(path: Path, error: BaseException) -> str:
    """`:12` for the last line of the file that took part in the error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    linecache.checkcache(str(path))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f":{frames[-1].lineno}" if frames else ""


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    names = sorted(other.name for other in path.parent.glob("*.py"))
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {path.parent / near[0]}?" if near else ""


def _listed(names: Mapping[str, Any]) -> str:
    public = sorted(name for name in names if not name.startswith("_"))
    return ", ".join(public) if public else "no variable at all"


def _describe(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})" if not isinstance(value, type) else repr(value)


# --- overrides -----------------------------------------------------------------------------


def override(config: T, overrides: Sequence[str]) -> T:
    """Applies `"a.b=value"` strings. All fields of one dataclass change at once, so that
    its `__post_init__` never sees half of a change."""
    tree: dict[str, Any] = {}
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--config.{path}: expected --config.{path}=VALUE, got no value.")
        _insert(tree, config, path.split("."), value, path)
    return _rebuilt(config, tree, "")


def _insert(tree: dict[str, Any], node: Any, names: list[str], text: str, place: str) -> None:
    """Puts the parsed value where the path says, checking each name against the dataclass."""
    done = len(place.split(".")) - len(names)
    prefix = ".".join(place.split(".")[:done])
    hints = _field_types(node)
    name = names[0]
    if name not in hints:
        raise UserError(_unknown_field(node, name, prefix, list(hints)))
    value = getattr(node, name)
    if len(names) == 1:
        tree[name] = parse_value(text, hints[name], f"--config.{place}")
        return
    if not dataclasses.is_dataclass(value):
        reached = ".".join([*filter(None, [prefix]), name])
        raise UserError(f"--config.{place}: {reached} has no fields, it is {_describe(value)}.")
    child = tree.setdefault(name, {})
    if not isinstance(child, dict):
        raise UserError(f"--config.{place}: an earlier override set {name} to {child!r}.")
    _insert(child, value, names[1:], text, place)


def _unknown_field(node: Any, name: str, prefix: str, known: list[str]) -> str:
    place = f"--config.{prefix}." if prefix else "--config."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    # A field of another group is the other frequent slip: --config.lr for --config.grpo.lr.
    elsewhere = [path for path in _paths(node) if path.rsplit(".", 1)[-1] == name]
    if elsewhere:
        hint = f"did you mean {place}{elsewhere[0]}?"
    elif near:
        hint = f"did you mean {place}{near[0]}?"
    else:
        hint = f"its fields are {', '.join(known)}."
    return f"{place}{name}: {type(node).__name__} has no field {name!r}; {hint}"


def _paths(node: Any) -> list[str]:
    """Dotted names of everything below a dataclass."""
    found: list[str] = []
    for field in dataclasses.fields(node):
        found.append(field.name)
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            found += [f"{field.name}.{path}" for path in _paths(value)]
    return found


def _rebuilt(node: Any, tree: Mapping[str, Any], prefix: str) -> Any:
    changes = {
        name: _rebuilt(getattr(node, name), value, f"{prefix}{name}.")
        if isinstance(value, dict)
        else value
        for name, value in tree.items()
    }
    if not changes:
        return node
    try:
        return dataclasses.replace(node, **changes)
    except ValueError as error:  # a __post_init__ refused
        if isinstance(error, UserError):
            raise
        said = one_sentence(error)
        known = [prefix.rstrip("."), *(f"{prefix}{path}" for path in _paths(node))]
        if said.partition(":")[0] in known:  # it says itself which field is wrong
            raise UserError(f"--config.{said}") from error
        places = ", ".join(f"--config.{prefix}{name}" for name in changes)
        raise UserError(f"{places}: {said}") from error


def _field_types(node: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(type(node))
    return {field.name: hints[field.name] for field in dataclasses.fields(node) if field.init}


# --- values --------------------------------------------------------------------------------


def parse_value(text: str, annotation: Any, place: str) -> Any:
    """Reads a value of the annotated type: int, float, bool, str, Path, Enum, Literal, Optional
    and unions, tuple. `place` is the flag, for the message."""
    try:
        return _parse(text, annotation)
    except _Mismatch as error:
        raise UserError(f"{place}: expected {type_name(annotation)}, got {text!r}.") from error
    except _Unsupported as error:
        raise UserError(f"{place}: {error}") from error


class _Mismatch(ValueError):
    """The text is no value of the type."""


class _Unsupported(ValueError):
    """No text is a value of the type."""


def _parse(text: str, annotation: Any) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _parse_union(text, arguments)
    if origin is Literal:
        return _parse_choice(text, {str(option): option for option in arguments})
    if origin is tuple:
        return _parse_tuple(text, arguments)
    if annotation is type(None):
        return _parse_choice(text.lower(), {"none": None})
    if annotation is bool:
        return _parse_choice(text.lower(), BOOL_WORDS)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        by_value = {str(member.value): member for member in annotation}
        return _parse_choice(text, by_value | dict(annotation.__members__))
    if annotation is str:
        return text
    if annotation in (int, float, Path):
        return _parse_by(annotation, text)
    if dataclasses.is_dataclass(annotation):
        names = ", ".join(field.name for field in dataclasses.fields(annotation))
        raise _Unsupported(f"{type_name(annotation)} is a group; set one of its fields: {names}.")
    raise _Unsupported(f"{type_name(annotation)} can't be set from the command line.")


def _parse_by(constructor: type, text: str) -> Any:
    try:
        return constructor(text.strip())
    except ValueError as error:
        raise _Mismatch from error


def _parse_choice(text: str, choices: Mapping[str, Any]) -> Any:
    if text not in choices:
        raise _Mismatch
    return choices[text]


def _parse_union(text: str, members: Sequence[Any]) -> Any:
    """The first member that reads the text; str last, because it reads anything."""
    for member in sorted(members, key=lambda member: member in (str, Path)):
        try:
            return _parse(text, member)
        except (_Mismatch, _Unsupported):
            continue
    raise _Mismatch


def _parse_tuple(text: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
    """`1,2` or `(1, 2)`, nested by parentheses; an empty text or `()` is the empty tuple."""
    items = _split(text)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_parse(item, arguments[0]) for item in items)
    if len(items) != len(arguments):
        raise _Mismatch
    return tuple(_parse(item, part) for item, part in zip(items, arguments, strict=True))


def _split(text: str) -> list[str]:
    """Comma-separated items outside of any parentheses."""
    text = text.strip()
    if text.startswith(("(", "[")) and _closing(text) == len(text) - 1:
        text = text[1:-1]
    items, depth, current = [], 0, ""
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            items.append(current.strip())
            current = ""
        else:
            current += character
    # A trailing comma, as Python writes one-element tuples, opens no further item.
    return [*items, current.strip()] if current.strip() else items


def _closing(text: str) -> int:
    """Index of the bracket that closes the one at index 0, or -1."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if depth == 0:
            return index
    return -1


def type_name(annotation: Any) -> str:
    """A type in words for people: `int`, `one of vote, geometry`, `int or none`, `int,int,int`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(member) for member in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"values separated by commas, each {type_name(arguments[0])}"
    if origin is tuple:
        return f"{len(arguments)} values ({', '.join(map(type_name, arguments))})"
    if annotation is type(None):
        return "none"
    if annotation is bool:
        return "true or false"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return f"one of {', '.join(annotation.__members__)}"
    names = {int: "an int", float: "a float", str: "a str", Path: "a path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))
