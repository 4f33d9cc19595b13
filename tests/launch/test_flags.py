"""Config files and typed overrides."""

import dataclasses
import enum
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from launch.errors import UserError
from launch.flags import load_config, override, parse_value, read_config_file


class Mode(enum.Enum):
    FAST = "quick"
    EXACT = "exact"


@dataclasses.dataclass(frozen=True)
class Inner:
    lr: float = 1e-3
    low: float = 0.1
    high: float = 0.2

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"expected low <= high, got {self.low} > {self.high}.")


@dataclasses.dataclass(frozen=True)
class Outer:
    steps: int = 10
    name: str = "run"
    resume: bool = True
    reward: Literal["geometry", "vote"] = "geometry"
    mode: Mode = Mode.FAST
    folder: Path = Path("runs")
    seed: int | None = None
    mesh: tuple[int, int, int] = (1, 1, 1)
    tasks: tuple[str, ...] = ()
    inner: Inner = Inner()
    extra: Inner | None = None
    table: dict[str, int] = dataclasses.field(default_factory=dict)


def changed(*overrides: str) -> Outer:
    return override(Outer(), overrides)


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        changed(*overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_overrides_the_config_is_the_same_object() -> None:
    config = Outer()
    assert override(config, []) is config


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("12", int, 12),
        ("-3", int, -3),
        ("2_000", int, 2000),
        ("1e-4", float, 1e-4),
        ("3", float, 3.0),
        ("true", bool, True),
        ("No", bool, False),
        ("", str, ""),
        ("a=b", str, "a=b"),
        ("data/rooms", Path, Path("data/rooms")),
        ("vote", Literal["geometry", "vote"], "vote"),
        ("2", Literal[1, 2], 2),
        ("EXACT", Mode, Mode.EXACT),
        ("quick", Mode, Mode.FAST),
        ("none", int | None, None),
        ("None", Optional[int], None),  # noqa: UP045 - the older spelling must work too
        ("7", int | None, 7),
        ("7", str | int, 7),
        ("x", str | int, "x"),
        ("1,2,3", tuple[int, int, int], (1, 2, 3)),
        ("(1, 2, 3)", tuple[int, ...], (1, 2, 3)),
        ("[4]", tuple[int, ...], (4,)),
        ("(4,)", tuple[int, ...], (4,)),
        ("", tuple[str, ...], ()),
        ("()", tuple[str, ...], ()),
        ("1,fast", tuple[int, str], (1, "fast")),
        ("(1,2),(3,4)", tuple[tuple[int, int], ...], ((1, 2), (3, 4))),
        ("0.9,none", tuple[float | None, ...], (0.9, None)),
    ],
)
def test_text_becomes_a_value_of_the_annotated_type(text: str, annotation: Any, value: Any) -> None:
    parsed = parse_value(text, annotation, "--config.x")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation", "expected"),
    [
        ("ten", int, "an int"),
        ("1.5", int, "an int"),
        ("fast", float, "a float"),
        ("maybe", bool, "true or false"),
        ("votes", Literal["geometry", "vote"], "one of geometry, vote"),
        ("slow", Mode, "one of FAST, EXACT"),
        ("x", int | None, "an int or none"),
        ("1,2", tuple[int, int, int], "3 values (an int, an int, an int)"),
        ("1,b", tuple[int, ...], "values separated by commas, each an int"),
        ("1,,2", tuple[int, ...], "values separated by commas, each an int"),
    ],
)
def test_a_wrong_value_names_the_flag_the_type_and_the_value(
    text: str, annotation: Any, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        parse_value(text, annotation, "--config.a.b")
    assert str(caught.value) == f"--config.a.b: expected {expected}, got {text!r}."


def test_nested_fields_change_and_the_rest_stays() -> None:
    config = changed("inner.lr=3e-4", "steps=20", "mesh=2,4,1")
    assert config == Outer(steps=20, mesh=(2, 4, 1), inner=Inner(lr=3e-4))


def test_the_last_of_two_overrides_counts() -> None:
    assert changed("steps=1", "steps=2").steps == 2


def test_two_fields_that_depend_on_each_other_change_together() -> None:
    """Either alone would break low <= high."""
    assert changed("inner.low=0.5", "inner.high=0.9").inner == Inner(low=0.5, high=0.9)


def test_a_refused_value_names_the_flag_and_the_reason() -> None:
    message = refusal("inner.low=0.5")
    assert message == "--config.inner.low: expected low <= high, got 0.5 > 0.2."


@dataclasses.dataclass(frozen=True)
class Placed:
    """Its errors say where they are."""

    low: float = 0.1
    high: float = 0.2

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"group.low: expected at most group.high={self.high}, got {self.low}.")
        if self.high > 1:
            raise ValueError("group: expected shares.")


@dataclasses.dataclass(frozen=True)
class Whole:
    name: str = "run"
    group: Placed = Placed()

    def __post_init__(self) -> None:
        if self.name == "low" and self.group.low > 0:
            raise ValueError(f"group.low: expected 0 for name=low, got {self.group.low}.")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("group.low=0.5",), "--config.group.low: expected at most group.high=0.2, got 0.5."),
        (("group.high=0",), "--config.group.low: expected at most group.high=0.0, got 0.1."),
        (("group.high=3", "group.low=2"), "--config.group: expected shares."),
        (("name=low", "group.low=0.2"), "--config.group.low: expected 0 for name=low, got 0.2."),
    ],
)
def test_an_error_that_says_its_place_is_given_no_other_one(
    overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        override(Whole(), overrides)
    assert str(caught.value) == message


def test_an_unknown_field_names_the_nearest_one() -> None:
    assert refusal("step=3") == (
        "--config.step: Outer has no field 'step'; did you mean --config.steps?"
    )
    assert "did you mean --config.inner.high?" in refusal("inner.hihg=3")


def test_a_field_of_another_group_is_found() -> None:
    assert "did you mean --config.inner.lr?" in refusal("lr=3")


def test_a_field_like_no_other_lists_what_there_is() -> None:
    assert "its fields are lr, low, high." in refusal("inner.zzz=3")


def test_a_group_is_not_a_value() -> None:
    assert "Inner is a group; set one of its fields: lr, low, high." in refusal("inner=3")


def test_a_value_is_not_a_group() -> None:
    assert refusal("inner.lr.x=3") == (
        "--config.inner.lr.x: inner.lr has no fields, it is 0.001 (float)."
    )


def test_a_group_that_is_none_has_no_fields_to_set() -> None:
    assert "extra has no fields, it is None" in refusal("extra.lr=3")
    full = override(Outer(extra=Inner()), ["extra.lr=3"])
    assert full.extra == Inner(lr=3.0)
    assert override(full, ["extra=none"]).extra is None
    with pytest.raises(UserError, match="an earlier override set extra to None"):
        override(full, ["extra=none", "extra.lr=1"])


def test_a_type_that_no_text_can_be_says_so() -> None:
    assert "can't be set from the command line" in refusal("table=1")


def test_an_override_without_a_value_is_refused() -> None:
    assert "got no value" in refusal("steps")


# --- files ---------------------------------------------------------------------------------


def config_file(folder: Path, text: str) -> Path:
    path = folder / "tiny.py"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Inner:
    lr: float = 0.1

@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 3
    inner: Inner = Inner()

CONFIG = Config(steps=4)
"""


def test_a_config_file_is_read_and_overridden(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, GOOD), ["inner.lr=2"], object)
    assert repr(config) == "Config(steps=4, inner=Inner(lr=2.0))"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CONFIGURATION = 3", "expected a variable named CONFIG, got CONFIGURATION."),
        ("", "got no variable at all."),
        ("CONFIG = 3", "expected CONFIG to be a dataclass, got 3 (int)."),
        ("x = 1\nCONFIG = unknown", ":2: the config file failed with NameError: name 'unknown'"),
        ("x = 1\n\nCONFIG = (", ":3: the config file failed with SyntaxError"),
        ("import nothing_like_it", ":1: the config file failed with ModuleNotFoundError"),
        ("def f():\n    raise ValueError('a\\nb')\nf()", ":2: the config file failed with Value"),
    ],
)
def test_a_broken_config_file_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = config_file(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_config_file(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_config_file_names_the_nearest_one(tmp_path: Path) -> None:
    path = config_file(tmp_path, GOOD)
    with pytest.raises(UserError, match=rf"no such config file\. Did you mean {path}\?"):
        read_config_file(tmp_path / "tinny.py")
    with pytest.raises(UserError, match=r"no such config file\.$"):
        read_config_file(tmp_path / "elsewhere" / "tiny.py")


def test_a_config_of_another_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected CONFIG of type Outer, got Config"):
        load_config(config_file(tmp_path, GOOD), [], Outer)


def test_a_file_may_hold_several_configurations(tmp_path: Path) -> None:
    several = GOOD.replace("CONFIG =", "CONFIGS = dict(long=Config(steps=9), short=") + ")"
    path = config_file(tmp_path, several)
    for name, steps in (("long", 9), ("short", 4)):
        assert load_config(path.with_name(f"{path.name}:{name}"), [], object).steps == steps  # pyright: ignore
    for name, got in ((f"{path.name}:lang", "'lang'"), (path.name, "'no name'")):
        with pytest.raises(UserError, match=rf"expected one of .*:long, .*:short, got {got}"):
            read_config_file(path.with_name(name))
    config_file(tmp_path, GOOD)
    with pytest.raises(UserError, match="expected a variable named CONFIGS, got"):
        read_config_file(path.with_name(f"{path.name}:long"))


# --- as a command --------------------------------------------------------------------------

TOOL = '''"""A tool.

Example: python tool.py --config=tiny.py --config.steps=5
"""
import dataclasses, json
from absl import flags
from launch.errors import run, user_errors
from launch.flags import define_config
_CONFIG = define_config(object)
_NUMBER = flags.DEFINE_integer("number", 1, "A number.")
def main(argv):
    with user_errors(FileNotFoundError, place="reading"):
        if _NUMBER.value == 2:
            open("missing.txt")
    if _NUMBER.value == 3:
        raise RuntimeError("a bug")
    print(json.dumps(dataclasses.asdict(_CONFIG.load())))
if __name__ == "__main__":
    run(main)
'''


@pytest.fixture(scope="module")
def tool_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tool")
    (folder / "tool.py").write_text(TOOL, encoding="utf-8")
    (folder / "tiny.py").write_text(GOOD, encoding="utf-8")
    return folder


def run_tool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "tool.py", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(root), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "overrides",
    [
        ["--config.steps=5", "--config.inner.lr=2"],
        ["--config.steps", "5", "--config.inner.lr", "2"],
    ],
)
def test_a_command_takes_overrides_with_or_without_equals(
    tool_folder: Path, overrides: list[str]
) -> None:
    done = run_tool(tool_folder, "--config=tiny.py", *overrides)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"steps": 5, "inner": {"lr": 2.0}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --config=FILE"),
        (["--config=none.py"], "none.py: no such config file."),
        (["--config=tiny.py", "--config.step=5"], "did you mean --config.steps?"),
        (["--config=tiny.py", "--config.steps=x"], "--config.steps: expected an int, got 'x'."),
        (["--config=tiny.py", "--config.steps"], "--config.steps needs a value"),
        (["--config=tiny.py", "--nunber=1"], "Unknown command line flag 'nunber'"),
        (["--config=tiny.py", "--number=x"], "--number=x"),
        (["--config=tiny.py", "steps=5"], "expected flags like --name=value only, got 'steps=5'."),
        (["--config=tiny.py", "--number=2"], "reading: missing.txt: no such file or directory."),
    ],
)
def test_a_user_mistake_is_one_line_and_exit_code_2(
    tool_folder: Path, arguments: list[str], message: str
) -> None:
    done = run_tool(tool_folder, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("tool.py: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback(tool_folder: Path) -> None:
    done = run_tool(tool_folder, "--config=tiny.py", "--number=3")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_reader_that_has_read_enough_is_no_error_message(tool_folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "tool.py", "--config=tiny.py"],
        cwd=tool_folder,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PATH": ""},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (2, "")


def test_help_shows_the_example_and_the_flags_and_succeeds(tool_folder: Path) -> None:
    done = run_tool(tool_folder, "--help")
    assert done.returncode == 0
    assert "Example: python tool.py" in done.stdout
    assert "--config:" in done.stdout
    assert "--number:" in done.stdout
    assert "pdb" not in done.stdout
