"""Safetensors files by byte range: a header that is checked before any tensor is read, tensors that
are read when they are indexed, and files whose tensors are written one by one, in any order.

The library holds a whole file in memory to write it, and does not say which tensor a truncated file
cuts. The format: 8 bytes with the length of the header, the header (JSON: type, shape and byte
range of each tensor), the bytes of the tensors without gaps.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

DTYPES = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(jnp.bfloat16),
    "F16": np.dtype(np.float16),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
METADATA = {"format": "pt"}  # without it transformers refuses the file
LONGEST_HEADER = 100_000_000  # bytes, the format's own limit


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file. Indexing it reads what is asked for, and no more of the file."""

    path: Path
    offset: int  # bytes from the start of the file
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, index: Any) -> np.ndarray:
        # Mapped for as long as the result lives: what is mapped needs no memory of its own.
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)[index]

    def write(self, value: np.ndarray) -> None:
        """Puts the value into the file, which `create` made.

        Raises:
            ValueError: another shape or type. OSError: no room.
        """
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ValueError(
                f"{self.path}: expected {self.dtype} {self.shape}, got {value.dtype} {value.shape}."
            )
        try:
            with self.path.open("r+b") as file:
                file.seek(self.offset)
                file.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        except OSError as error:  # of a write, which does not say where
            raise OSError(error.errno, error.strerror, str(self.path)) from error


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by their names, in the order of their bytes.

    Raises:
        OSError: no such file. ValueError: no safetensors file, one that is truncated, or a tensor
            of another type than F32, BF16 and F16; a message about a tensor names it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise ValueError(
                f"{path}: expected a safetensors file; its header is cut off "
                f"(the file has {size} bytes)."
            )
        text = file.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the safetensors header does not parse ({error}).") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path}: expected a safetensors header, got {header!r:.40}.")
    start = 8 + length
    stored = {
        name: _stored(path, name, fields, start)
        for name, fields in header.items()
        if name != "__metadata__"
    }
    stored = dict(sorted(stored.items(), key=lambda item: (item[1].offset, item[1].nbytes)))
    end = start
    for name, tensor in stored.items():
        if tensor.offset != end:
            raise ValueError(
                f"{path}: {name}: expected its bytes to begin at {end}, where those before it end, "
                f"got {tensor.offset}."
            )
        end += tensor.nbytes
        if end > size:
            raise ValueError(
                f"{path}: {name}: truncated: its bytes end at {end}, the file at {size}."
            )
    if end != size:
        raise ValueError(f"{path}: expected {end} bytes by its header, got {size}.")
    return stored


def _stored(path: Path, name: str, fields: Any, start: int) -> StoredTensor:
    """One entry of the header, `start` being where the tensors' bytes begin."""

    def whole_numbers(value: Any) -> bool:
        return isinstance(value, list) and all(type(x) is int and x >= 0 for x in value)

    if not isinstance(fields, dict):
        raise ValueError(f"{path}: {name}: expected an object in the header, got {fields!r:.40}.")
    dtype, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(
            f"{path}: {name}: expected the type {', '.join(DTYPES)}, got {dtype!r:.40}."
        )
    if not isinstance(shape, list) or not whole_numbers(shape):
        raise ValueError(f"{path}: {name}: expected a shape, got {shape!r:.40}.")
    if not isinstance(offsets, list) or not whole_numbers(offsets) or len(offsets) != 2:
        raise ValueError(f"{path}: {name}: expected two data_offsets, got {offsets!r:.40}.")
    tensor = StoredTensor(path, start + offsets[0], tuple(shape), DTYPES[dtype])
    if offsets[1] - offsets[0] != tensor.nbytes:
        raise ValueError(
            f"{path}: {name}: expected {tensor.nbytes} bytes for {dtype} {shape}, "
            f"got {offsets[1] - offsets[0]}."
        )
    return tensor


def create(
    path: Path, tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]]
) -> dict[str, StoredTensor]:
    """Makes a file for tensors of these types and shapes, in this order, all bytes zero as yet.

    The header is laid out as the library does it: a file of the same tensors in the same order has
    the same bytes.
    """
    header: dict[str, Any] = {"__metadata__": METADATA}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(start + end)
    return {
        name: StoredTensor(path, start + header[name]["data_offsets"][0], shape, dtype)
        for name, (dtype, shape) in tensors.items()
    }
