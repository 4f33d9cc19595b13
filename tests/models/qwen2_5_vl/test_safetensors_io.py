"""Safetensors files: the library's own bytes, and every way in which one can be damaged."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from spatialevo_jax.models.qwen2_5_vl import safetensors_io

TENSORS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b.é": np.arange(10).astype(ml_dtypes.bfloat16).reshape(2, 5),
    "c": np.arange(3).astype(np.float16),
}


def raw(path: Path, header: Any, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_a_file_of_the_library_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path)
    read = safetensors_io.read_header(path)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert (read[name].shape, read[name].dtype) == (tensor.shape, tensor.dtype)
        assert read[name][:].tobytes() == tensor.tobytes()
    np.testing.assert_array_equal(read["a"][1:, 2:4], TENSORS["a"][1:, 2:4])


def test_written_in_any_order_a_file_has_the_bytes_of_the_library(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    ours = tmp_path / "ours.safetensors"
    slots = safetensors_io.create(ours, {n: (t.dtype, t.shape) for n, t in TENSORS.items()})
    for name in reversed(TENSORS):
        slots[name].write(TENSORS[name])
    assert ours.read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    assert load_file(ours).keys() == TENSORS.keys()


def test_a_header_of_odd_length_is_read(tmp_path: Path) -> None:
    data = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    for length in range(4):  # the library pads headers, other programs need not
        header = json.dumps({"x": entry("BF16", [2, 3], [0, 12])}).encode() + b" " * length
        read = safetensors_io.read_header(raw(tmp_path / "x", header, data.tobytes()))["x"]
        np.testing.assert_array_equal(np.array(read[:]), data)
        np.testing.assert_array_equal(read[:].T.astype(np.float32), data.T.astype(np.float32))


def test_another_shape_or_type_is_not_written(tmp_path: Path) -> None:
    slot = safetensors_io.create(tmp_path / "x", {"x": (np.dtype(np.float32), (2, 3))})["x"]
    with pytest.raises(ValueError, match=r"expected float32 \(2, 3\), got float32 \(3, 2\)"):
        slot.write(np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match=r"expected float32 \(2, 3\), got float16 \(2, 3\)"):
        slot.write(np.zeros((2, 3), np.float16))


@pytest.mark.parametrize("cut", [0, 7, 8, 60, -1], ids=lambda cut: f"{cut} bytes")
def test_a_truncated_file_is_an_error_at_any_length(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"x\.safetensors: .*(cut off|truncated)"):
        safetensors_io.read_header(path)


def test_the_first_tensor_that_is_cut_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-7])  # into b.é, c gone
    with pytest.raises(ValueError, match=r"b\.é: truncated"):
        safetensors_io.read_header(path)


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        (b"{" * 9, 0, "does not parse"),
        (b"[" * 100_000, 0, "does not parse"),
        (b"[]", 0, r"expected a safetensors header, got \[\]"),
        ({"x": 3}, 0, "x: expected an object in the header, got 3"),
        ({"x": entry("I8", [8])}, 8, "x: expected the type F32, BF16, F16, got 'I8'"),
        ({"x": entry(["F32"])}, 8, "x: expected the type"),
        ({"x": entry(shape="2")}, 8, "x: expected a shape, got '2'"),
        ({"x": entry(shape=[-2])}, 8, "x: expected a shape"),
        ({"x": entry(shape=[True])}, 8, "x: expected a shape"),
        ({"x": entry(offsets=[0])}, 8, "x: expected two data_offsets"),
        ({"x": entry(offsets=[8, 0])}, 8, "x: expected 8 bytes for F32 .2., got -8"),
        ({"x": entry(shape=[3])}, 8, "x: expected 12 bytes for F32 .3., got 8"),
        ({"x": entry(offsets=[4, 12])}, 12, "x: expected its bytes to begin at"),
        ({"x": entry(), "y": entry()}, 8, "y: expected its bytes to begin at"),
        ({"x": entry()}, 9, "expected .* bytes by its header, got"),
    ],
)
def test_a_damaged_header_is_an_error(tmp_path: Path, header: Any, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        safetensors_io.read_header(raw(tmp_path / "x", header, bytes(size)))
