"""Text and JSON of raw data, with errors that name the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.scan import ScanError


def read_text(path: Path) -> str:
    """UTF-8, with or without a byte-order mark, which editors on Windows write.

    Raises:
        ScanError: no such file, or no such text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ScanError(f"{path}: expected text, cannot read it ({error}).") from error


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        ScanError: no such file, cut short, or no object.
    """
    if not path.is_file():
        raise ScanError(f"{path}: expected a file, found none.")
    text = read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ScanError(f"{path}: expected whole JSON ({error}).") from error
    if not isinstance(value, dict):
        raise ScanError(f"{path}: expected a JSON object, got {type(value).__name__}.")
    return value


def field(owner: Any, name: str, kind: type, where: object) -> Any:
    """`owner[name]`, which must be of a type.

    Raises:
        ScanError: `owner` is no object, or has no such field of that type.
    """
    value = owner.get(name) if isinstance(owner, dict) else None
    if not isinstance(value, kind):
        raise ScanError(f"{where}: expected {name!r} as {kind.__name__}, got {value!r:.60}.")
    return value


def numbers(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """f64 of a shape; they may be infinite or NaN.

    Raises:
        ScanError: the value is something else.
    """
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    if array.shape != shape:
        wanted = "x".join(map(str, shape)) or "a number"
        raise ScanError(f"{where}: expected {wanted} of numbers, got {value!r:.60}.")
    return array
