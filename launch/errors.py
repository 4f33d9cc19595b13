"""One way for every command to fail on a user's mistake: a sentence on stderr and exit code 2.

A command's `main` raises `UserError`, or wraps a call into the libraries below in
`user_errors(ValueError, FileNotFoundError)`. Any other exception is a bug of ours and keeps its
traceback.

    def main(argv: Sequence[str]) -> None:
        with user_errors(ValueError, FileNotFoundError):
            record = scene_io.load_scene(root, scene_id)

    if __name__ == "__main__":
        run(main)
"""

import contextlib
import logging as python_logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import app, flags, logging

EXIT_CODE = 2  # the shell's habit for a wrong command line; 1 is left to crashes
HELP_FLAGS = ("--help", "-help", "-h", "--h", "-?")
CONFIG_PREFIX = "--config."
OVERRIDE_FLAG = "config_override"  # defined by launch.flags.define_config


class UserError(ValueError):
    """The user asked for something that can't be done; the message says what, in one sentence."""


@contextlib.contextmanager
def user_errors(*types: type[Exception], place: str = "") -> Iterator[None]:
    """Turns exceptions of the given types into `UserError`, with `place` before the message."""
    try:
        yield
    except UserError:
        raise
    except types as error:
        message = one_sentence(error)
        raise UserError(f"{place}: {message}" if place else message) from error


def is_used(folder: Path) -> bool:
    """Whether anything visible is in it: what is hidden was left by a run that could not begin."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())


def writable(name: str | None) -> Path | None:
    """The file of that name, which a command will write at its end: that it can is made sure of
    before the work. What it holds stays until then.
    """
    if not name:
        return None
    path = Path(name)
    with user_errors(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        path.open("a").close()
        if not there:
            path.unlink()
    return path


def one_sentence(error: BaseException) -> str:
    """The message of an exception on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}."
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def parse_flags(argv: Sequence[str]) -> list[str]:
    """The `flags_parser` for `app.run`: absl's flags, plus `--config.a.b=value` overrides.

    `--help` prints the command's docstring and flags and exits 0 (absl's own exits 1).
    Returns argv without the flags: the program name and what else was left.
    """
    arguments = list(argv)
    before_separator = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if any(argument in HELP_FLAGS for argument in before_separator[1:]):
        app.usage(shorthelp=True, writeto_stdout=True)
        sys.exit(0)
    try:
        return flags.FLAGS(_rewrite_overrides(arguments))
    except flags.Error as error:
        raise UserError(one_sentence(error)) from error


def _rewrite_overrides(argv: list[str]) -> list[str]:
    """`--config.a=1` and `--config.a 1` become `--config_override=a=1`, which absl can hold."""
    rewritten: list[str] = []
    rest = iter(argv)
    for argument in rest:
        if argument == "--":
            return [*rewritten, argument, *rest]
        if not argument.startswith(CONFIG_PREFIX) or OVERRIDE_FLAG not in flags.FLAGS:
            rewritten.append(argument)
            continue
        path, equals, value = argument.removeprefix(CONFIG_PREFIX).partition("=")
        if not equals:
            following = next(rest, None)
            if following is None or following.startswith("--"):
                raise UserError(
                    f"{argument} needs a value: expected {argument}=VALUE, got "
                    f"{'nothing' if following is None else following!r} after it."
                )
            value = following
        rewritten.append(f"--{OVERRIDE_FLAG}={path}={value}")
    return rewritten


def run(main: Callable[[Sequence[str]], int | None], *, positionals: bool = False) -> None:
    """`app.run` for our commands: a `UserError` ends as one line on stderr and exit code 2.

    `main` receives argv without the flags. Without `positionals`, any leftover word is a mistake:
    it is nearly always a flag that lost its dashes.
    """
    program = program_name()

    def fail(error: BaseException) -> None:
        print(f"{program}: {one_sentence(error)}", file=sys.stderr)
        sys.exit(EXIT_CODE)

    def guarded_parse(argv: Sequence[str]) -> list[str]:
        try:
            left = parse_flags(argv)
            if len(left) > 1 and not positionals:
                raise UserError(f"expected flags like --name=value only, got {left[1]!r}.")
        except UserError as error:
            fail(error)
            raise AssertionError("unreachable") from error
        return left

    def guarded_main(argv: Sequence[str]) -> int | None:
        try:
            code = main(argv)
            sys.stdout.flush()
            return code
        except UserError as error:
            return fail(error)
        except BrokenPipeError:  # whoever read our output has read enough: `... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_CODE

    app.run(guarded_main, flags_parser=guarded_parse)


def hush_orbax() -> None:
    """Keeps orbax from logging: it tells every step of its work, and its errors once more than it
    raises them, as does the event loop that it works in. Warnings of our own are shown.
    """
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_logger().addFilter(lambda record: "orbax" not in Path(record.pathname).parts)
    python_logging.getLogger("asyncio").disabled = True
    shown = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs", /) -> None:
        # Where one write failed, orbax closes its loop under the others, which all complain of it.
        if str(unraisable.exc_value) != "Event loop is closed":
            shown(unraisable)

    sys.unraisablehook = hook


def program_name() -> str:
    """`launch.train` for `python -m launch.train`, else the script's file name."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else sys.argv[0].rsplit("/", 1)[-1]
