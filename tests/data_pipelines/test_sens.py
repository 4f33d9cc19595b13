"""The .sens container: its bytes as the owners' readers know them, both ways, and files that end
too early or hold something else."""

import dataclasses
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_pipelines import sens
from data_pipelines.scan import ScanError
from data_pipelines.sens import ColorCodec, DepthCodec, SensFrame, SensHeader

COUNT = 5
LOST = np.full((4, 4), -np.inf, np.float32)


def header(**values: Any) -> SensHeader:
    rng = np.random.default_rng(1)
    a, b, c, d = rng.normal(size=(4, 4, 4)).astype(np.float32)
    plain = SensHeader(
        "StructureSensor", a, b, c, d, ColorCodec.JPEG, DepthCodec.ZLIB, (24, 18), (16, 12)
    )
    return dataclasses.replace(plain, **values)


def pictures(head: SensHeader) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(2)
    colors = rng.integers(0, 256, (COUNT, *head.color_size[::-1], 3), np.uint8)
    depths = rng.integers(0, 65536, (COUNT, *head.depth_size[::-1]), np.uint16)
    return list(colors), list(depths)


def frames(head: SensHeader) -> list[SensFrame]:
    rng = np.random.default_rng(3)
    made = []
    for row, (color, depth) in enumerate(zip(*pictures(head), strict=True)):
        pose = LOST if row == 2 else rng.normal(size=(4, 4)).astype(np.float32)
        color_bytes = sens.encode_color(color, head.color_codec)
        depth_bytes = sens.encode_depth(depth, head.depth_codec)
        made.append(SensFrame(pose, color_bytes, depth_bytes, 1000 * row, 1000 * row + 7))
    return made


def imu(count: int) -> np.ndarray:
    records = np.zeros(count, sens.IMU_DTYPE)
    records["gravity"] = np.random.default_rng(4).normal(size=(count, 3))
    records["time"] = np.arange(count) + (1 << 40)
    return records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "scan.sens"
    sens.write_sens(found, header(), frames(header()), imu(3))
    return found


def plain_read(content: bytes) -> tuple[dict[str, Any], list[tuple], bytes]:
    """Read from the first byte to the last, field by field: header, frames, what follows them."""
    stream = io.BytesIO(content)

    def take(form: str) -> tuple:
        return struct.unpack("<" + form, stream.read(struct.calcsize("<" + form)))

    found: dict[str, Any] = {"version": take("I")[0]}
    (length,) = take("Q")
    found["sensor"] = stream.read(length).decode()
    for name in ("color_intrinsics", "color_extrinsics", "depth_intrinsics", "depth_extrinsics"):
        found[name] = np.array(take("16f"), np.float32).reshape(4, 4)
    found["codecs"], found["sizes"] = take("2i"), take("4I")
    (found["shift"],) = take("f")
    (count,) = take("Q")
    assert stream.tell() == 304 + length
    read = []
    for _ in range(count):
        pose, times = np.array(take("16f"), np.float32).reshape(4, 4), take("2Q")
        color, depth = take("2Q")
        read.append((pose, times, stream.read(color), stream.read(depth)))
    return found, read, stream.read()


def test_bytes_are_those_of_the_format(path: Path) -> None:
    found, read, rest = plain_read(path.read_bytes())
    head = header()
    assert (found["version"], found["sensor"], found["shift"]) == (4, "StructureSensor", 1000.0)
    assert (found["codecs"], found["sizes"]) == ((2, 1), (24, 18, 16, 12))
    for name in ("color_intrinsics", "color_extrinsics", "depth_intrinsics", "depth_extrinsics"):
        np.testing.assert_array_equal(found[name], getattr(head, name))
    for (pose, times, color, depth), frame in zip(read, frames(head), strict=True):
        np.testing.assert_array_equal(pose, frame.pose)
        assert (times, color, depth) == (
            (frame.color_time, frame.depth_time),
            frame.color,
            frame.depth,
        )
    assert rest == struct.pack("<Q", 3) + imu(3).tobytes()


def test_index_finds_what_a_plain_reading_finds(path: Path) -> None:
    index = sens.read_index(path)
    _, read, _ = plain_read(path.read_bytes())
    assert (index.frame_count, len(index.poses), index.cut) == (COUNT, COUNT, "")
    for row, (pose, times, color, depth) in enumerate(read):
        np.testing.assert_array_equal(index.poses[row], pose)
        assert tuple(index.times[row]) == times
        assert sens.color_bytes(index, row) == color
        assert sens.depth_bytes(index, row) == depth
    assert index.imu_count == 3


def test_file_read_and_written_again_is_the_same_to_the_byte(path: Path, tmp_path: Path) -> None:
    index = sens.read_index(path)
    again = tmp_path / "again.sens"
    sens.write_sens(
        again,
        index.header,
        (
            SensFrame(
                index.poses[row],
                sens.color_bytes(index, row),
                sens.depth_bytes(index, row),
                *index.times[row].tolist(),
            )
            for row in range(COUNT)
        ),
        imu(3),
    )
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("color_codec", ColorCodec)
@pytest.mark.parametrize("depth_codec", [DepthCodec.RAW, DepthCodec.ZLIB])
def test_pixels_come_back_in_every_codec(
    color_codec: ColorCodec, depth_codec: DepthCodec, tmp_path: Path
) -> None:
    head = header(color_codec=color_codec, depth_codec=depth_codec)
    sens.write_sens(tmp_path / "a.sens", head, frames(head))
    index = sens.read_index(tmp_path / "a.sens")
    colors, depths = pictures(head)
    for row in range(COUNT):
        depth = sens.depth(index, row)
        assert depth.dtype == np.uint16
        np.testing.assert_array_equal(depth, depths[row])
        color = sens.color(index, row)
        if color_codec == ColorCodec.JPEG:
            with Image.open(io.BytesIO(frames(head)[row].color)) as image:
                np.testing.assert_array_equal(color, image)
        else:
            np.testing.assert_array_equal(color, colors[row])


def test_depth_in_other_units_becomes_millimetres(tmp_path: Path) -> None:
    head = header(depth_shift=4000.0)
    sens.write_sens(tmp_path / "a.sens", head, frames(head))
    depth = sens.depth(sens.read_index(tmp_path / "a.sens"), 0)
    np.testing.assert_allclose(depth, pictures(head)[1][0] / 4, atol=0.5)
    near = header(depth_shift=100.0)  # beyond 65 m there are no millimetres in 16 bits
    sens.write_sens(tmp_path / "b.sens", near, frames(near))
    assert sens.depth(sens.read_index(tmp_path / "b.sens"), 0).max() == 65535


def test_a_cut_file_keeps_its_whole_frames_and_says_where_it_ends(
    path: Path, tmp_path: Path
) -> None:
    content, whole = path.read_bytes(), sens.read_index(path)
    starts = whole.offsets[:, 0] - 96
    ends = whole.offsets[:, 1] + whole.sizes[:, 1]
    rng = np.random.default_rng(5)
    first = int(starts[0])
    places = {*rng.integers(first, len(content), 40).tolist(), *starts.tolist(), *ends.tolist()}
    places |= {*(whole.offsets[:, 0]).tolist(), *(whole.offsets[:, 1]).tolist()}
    for end in sorted(places):
        cut = tmp_path / "cut.sens"
        cut.write_bytes(content[:end])
        index = sens.read_index(cut)
        expected = int((ends <= end).sum())
        assert (len(index.poses), index.frame_count) == (expected, COUNT)
        if expected < COUNT:
            assert f"cut short at byte {end} in frame {expected} of {COUNT}" in index.cut
            assert f"{expected} whole frames come before it" in index.cut
        for row in range(expected):
            np.testing.assert_array_equal(sens.depth(index, row), sens.depth(whole, row))


def test_a_cut_says_which_part_of_the_frame_is_missing(path: Path, tmp_path: Path) -> None:
    content, whole = path.read_bytes(), sens.read_index(path)
    color, depth = whole.offsets[3]
    for end, said in (
        (color - 50, "its head needs 96 bytes, 46 are there"),
        (color + 10, f"its colour image needs {depth - color} bytes, 10 are there"),
        (depth + 20, f"its depth image needs {whole.sizes[3, 1]} bytes, 20 are there"),
    ):
        cut = tmp_path / "cut.sens"
        cut.write_bytes(content[:end])
        assert said in sens.read_index(cut).cut


def test_imu_block_may_be_missing_or_cut(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    block = 8 + 3 * 128
    for kept, records, said in ((0, 0, ""), (5, 0, "IMU block"), (8 + 200, 1, "record 1 of 3")):
        cut = tmp_path / "cut.sens"
        cut.write_bytes(content[: len(content) - block + kept])
        index = sens.read_index(cut)
        assert (len(index.poses), index.imu_count) == (COUNT, records)
        assert said in index.cut and bool(index.cut) == bool(said)


def patched(path: Path, at: int, value: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[at : at + len(value)] = value
    other = path.with_name("patched.sens")
    other.write_bytes(content)
    return other


AFTER_NAME = 12 + len("StructureSensor") + 256  # where the codecs are


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, struct.pack("<I", 3), "expected a .sens file of version 4, got 3"),
        (0, b"ply\n", "expected a .sens file of version 4"),
        (4, struct.pack("<Q", 1 << 60), "expected the length of a sensor's name"),
        (AFTER_NAME, struct.pack("<i", -1), "got -1 and 1"),
        (AFTER_NAME + 4, struct.pack("<i", 7), "got 2 and 7"),
        (AFTER_NAME + 4, struct.pack("<i", 2), r"codec 2 \(OCC\)"),
        (AFTER_NAME + 8, struct.pack("<I", 0), "expected image sizes"),
        (AFTER_NAME + 24, struct.pack("<f", 0.0), "expected depth units"),
        (AFTER_NAME + 24, struct.pack("<f", np.nan), "expected depth units"),
    ],
)
def test_a_header_of_another_form_is_refused(path: Path, at: int, value: bytes, said: str) -> None:
    with pytest.raises(ScanError, match=said):
        sens.read_index(patched(path, at, value))


def test_a_file_cut_in_its_header_is_refused(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    for end in range(0, 304 + len("StructureSensor"), 9):
        cut = tmp_path / "cut.sens"
        cut.write_bytes(content[:end])
        with pytest.raises(ScanError, match="cut short in the"):
            sens.read_index(cut)
    with pytest.raises(ScanError, match=r"none\.sens: expected a \.sens file, found none"):
        sens.read_index(tmp_path / "none.sens")


def test_sizes_beyond_the_file_are_a_cut(path: Path) -> None:
    at = int(sens.read_index(path).offsets[1, 0]) - 16
    index = sens.read_index(patched(path, at, struct.pack("<Q", (1 << 64) - 1)))
    assert len(index.poses) == 1 and "frame 1 of 5" in index.cut


def test_images_that_do_not_decode_are_named(path: Path, tmp_path: Path) -> None:
    head, good = header(), frames(header())[0]
    colors, depths = pictures(head)
    small = sens.encode_color(colors[0][:9], ColorCodec.JPEG)
    png = sens.encode_color(colors[0], ColorCodec.PNG)
    bad_colors = [good.color[: len(good.color) // 2], b"", small, png]
    bomb = zlib.compress(bytes(10_000_000))
    short = zlib.compress(depths[0].tobytes()[:-2])
    bad_depths = [good.depth[: len(good.depth) // 2], b"", b"no zlib", short, bomb]
    made = [good._replace(color=one) for one in bad_colors]
    made += [good._replace(depth=one) for one in bad_depths]
    sens.write_sens(tmp_path / "bad.sens", head, made)
    index = sens.read_index(tmp_path / "bad.sens")
    for row in range(len(bad_colors)):
        with pytest.raises(ScanError, match=rf"bad\.sens: colour of frame {row}: expected"):
            sens.color(index, row)
        assert sens.depth(index, row).shape == (12, 16)
    for row in range(len(bad_colors), len(made)):
        with pytest.raises(ScanError, match=rf"bad\.sens: depth of frame {row}: expected"):
            sens.depth(index, row)
        assert sens.color(index, row).shape == (18, 24, 3)


def test_raw_images_of_another_size_are_named(tmp_path: Path) -> None:
    head = header(color_codec=ColorCodec.RAW, depth_codec=DepthCodec.RAW)
    sens.write_sens(tmp_path / "a.sens", head, [SensFrame(LOST, b"abc", b"ab")])
    index = sens.read_index(tmp_path / "a.sens")
    with pytest.raises(ScanError, match="expected 1296 bytes, got 3"):
        sens.color(index, 0)
    with pytest.raises(ScanError, match="expected 384 bytes of uint16, got 2"):
        sens.depth(index, 0)


def test_nobody_writes_the_makers_own_depth(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="OCC"):
        sens.encode_depth(np.zeros((2, 2), np.uint16), DepthCodec.OCC)


def test_a_file_without_frames_has_an_empty_index(tmp_path: Path) -> None:
    sens.write_sens(tmp_path / "a.sens", header(), [])
    index = sens.read_index(tmp_path / "a.sens")
    assert (index.frame_count, index.poses.shape, index.cut) == (0, (0, 4, 4), "")
