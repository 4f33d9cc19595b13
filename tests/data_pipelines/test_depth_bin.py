"""All forms of depth.bin, by our writer and by hand, and files that are broken."""

import pickle
import struct
import zlib
from pathlib import Path
from typing import get_args

import lz4.block
import numpy as np
import pytest

from data_pipelines import depth_bin
from data_pipelines.scan import ScanError

FORMS = get_args(depth_bin.Form)


def frames(count: int = 5) -> list[np.ndarray]:
    """Depth that shrinks well, with a bit of noise."""
    rng = np.random.default_rng(0)
    slope = np.linspace(500, 4000, 256)[None] + np.zeros((192, 1))
    return [
        (slope + 10 * row + rng.integers(0, 5, slope.shape)).astype("u2") for row in range(count)
    ]


@pytest.fixture(params=FORMS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    depth_bin.write_depths(tmp_path / "depth.bin", frames(), request.param)
    return tmp_path / "depth.bin"


def test_every_form_gives_every_frame_in_any_order(path: Path) -> None:
    depths, truth = depth_bin.read_depths(path), frames()
    assert len(depths.sizes) == len(truth)
    for row in (4, 0, 3, 3, 1, 2):
        np.testing.assert_array_equal(depths.frame(row), truth[row])


def test_index_can_be_sent_to_another_process(path: Path) -> None:
    depths = pickle.loads(pickle.dumps(depth_bin.read_depths(path)))
    np.testing.assert_array_equal(depths.frame(2), frames()[2])


def test_stream_is_read_from_places_in_its_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth_bin, "PIECE", 1 << 12)
    depth_bin.write_depths(tmp_path / "depth.bin", frames(), "stream")
    depths, truth = depth_bin.read_depths(tmp_path / "depth.bin"), frames()
    for row in reversed(range(5)):
        np.testing.assert_array_equal(depths.frame(row), truth[row])


def test_blocks_by_hand(tmp_path: Path) -> None:
    millimetres = np.arange(192 * 256, dtype="<u2")
    metres = np.full(192 * 256, 1.2346, "<f4")
    metres[:3] = np.nan, np.inf, -1.0
    blocks = [
        lz4.block.compress(millimetres.tobytes(), store_size=False),
        b"",
        zlib.compress(metres.tobytes(), wbits=-15),
    ]
    content = b"".join(struct.pack("<I", len(block)) + block for block in blocks)
    (tmp_path / "depth.bin").write_bytes(content)
    depths = depth_bin.read_depths(tmp_path / "depth.bin")
    np.testing.assert_array_equal(depths.sizes > 0, [True, False, True])
    assert depths.frame(0).shape == (192, 256) and depths.frame(0)[1, 2] == 258
    np.testing.assert_array_equal(depths.frame(2).ravel()[:4], [0, 0, 0, 1235])


def test_stream_by_hand(tmp_path: Path) -> None:
    metres = np.stack([np.full((192, 256), 1.5, "<f4"), np.full((192, 256), 70.0, "<f4")])
    (tmp_path / "depth.bin").write_bytes(zlib.compress(metres.tobytes(), wbits=-15))
    depths = depth_bin.read_depths(tmp_path / "depth.bin")
    assert (depths.frame(0) == 1500).all() and (depths.frame(1) == 65535).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_file_that_is_cut_short_is_refused(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ScanError, match=r"depth\.bin: expected"):
        depth_bin.read_depths(path)


def test_empty_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "depth.bin"
    with pytest.raises(ScanError, match="found no such file"):
        depth_bin.read_depths(path)
    path.touch()
    with pytest.raises(ScanError, match="got a file of 0 bytes"):
        depth_bin.read_depths(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x01\x02",
        b"PNG" * 1000,
        struct.pack("<I", 40) + b"neither LZ4 nor DEFLATE, forty bytes long",
        zlib.compress(np.zeros(1000, "<f4").tobytes(), wbits=-15),  # not whole frames
        zlib.compress(np.zeros(192 * 256, "<f4").tobytes(), wbits=-15) + b"more",
    ],
)
def test_unknown_forms_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "depth.bin").write_bytes(content)
    with pytest.raises(ScanError, match=r"depth\.bin: expected"):
        depth_bin.read_depths(tmp_path / "depth.bin")


def test_block_that_is_broken_is_named_by_its_frame(tmp_path: Path) -> None:
    depth_bin.write_depths(tmp_path / "depth.bin", frames(2), "lz4")
    content = bytearray((tmp_path / "depth.bin").read_bytes())
    content[-200:] = bytes(200)
    (tmp_path / "depth.bin").write_bytes(content)
    depths = depth_bin.read_depths(tmp_path / "depth.bin")
    depths.frame(0)
    with pytest.raises(ScanError, match="frame 1: expected LZ4"):
        depths.frame(1)


def test_noise_never_crashes_the_reader(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for size in range(1, 60):
        (tmp_path / "depth.bin").write_bytes(rng.bytes(size))
        with pytest.raises(ScanError):
            depth_bin.read_depths(tmp_path / "depth.bin").frame(0)


def test_depth_of_another_size_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected depth of 192x256"):
        depth_bin.write_depths(tmp_path / "depth.bin", [np.zeros((60, 80), np.uint16)], "lz4")
