"""The .sens container of ScanNet: one pass over the frame heads, pixels decoded on demand.

Little endian, packed. Header, N frames, an IMU block:

    u32 version 4 | u64 length, sensor name | 4 x 16 f32 matrices, row major: colour intrinsics and
    extrinsics, depth intrinsics and extrinsics | i32 colour codec, i32 depth codec | 4 x u32 colour
    width and height, depth width and height | f32 depth units in a metre | u64 N
    frame: 16 f32 mesh_from_camera | u64 colour time, u64 depth time, microseconds | u64 colour
    bytes, u64 depth bytes | colour | depth
    u64 M, then M x (15 f64, u64 time)

Source: `SensReader/c++/src/sensorData.h` of github.com/ScanNet/ScanNet.
"""

import dataclasses
import enum
import io
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from data_pipelines.pictures import DAMAGED
from data_pipelines.scan import ScanError

VERSION = 4  # 3 had no IMU block; older ones are another format
LARGEST_SIDE = 1 << 15  # pixels; beyond it the header is not one
LONGEST_NAME = 1 << 12
JPEG_QUALITY = 95

_START = struct.Struct("<IQ")
_REST = struct.Struct("<64f2i4If")
_COUNT = struct.Struct("<Q")
_HEAD = struct.Struct("<16f4Q")
_HEAD_DTYPE = np.dtype([("pose", "<f4", (4, 4)), ("times", "<u8", 2), ("sizes", "<u8", 2)])
IMU_DTYPE = np.dtype(
    [
        (name, "<f8", 3)
        for name in ("rotation_rate", "acceleration", "magnetic_field", "attitude", "gravity")
    ]
    + [("time", "<u8")]
)


class ColorCodec(enum.IntEnum):
    RAW = 0  # RGB, 8 bits each
    PNG = 1
    JPEG = 2


class DepthCodec(enum.IntEnum):
    RAW = 0  # uint16
    ZLIB = 1  # of uint16
    OCC = 2  # of the sensor's maker; nobody else can decode it


@dataclasses.dataclass(frozen=True)
class SensHeader:
    sensor: str
    color_intrinsics: np.ndarray  # (4, 4) f32 pixels; whole numbers are pixel centres
    color_extrinsics: np.ndarray  # (4, 4) f32
    depth_intrinsics: np.ndarray  # (4, 4) f32
    depth_extrinsics: np.ndarray  # (4, 4) f32, colour camera from depth camera
    color_codec: ColorCodec
    depth_codec: DepthCodec
    color_size: tuple[int, int]  # width, height
    depth_size: tuple[int, int]
    depth_shift: float = 1000.0  # depth units in a metre


class SensFrame(NamedTuple):
    """One frame to be written, its images encoded with the header's codecs."""

    pose: np.ndarray  # (4, 4) mesh_from_camera; -inf where tracking was lost
    color: bytes
    depth: bytes
    color_time: int = 0  # microseconds
    depth_time: int = 0


@dataclasses.dataclass(frozen=True)
class SensIndex:
    """Where everything is in a .sens file. n frames are whole; `cut` says what is not."""

    path: Path
    header: SensHeader
    frame_count: int  # as the file states; more than n where it was cut short
    poses: np.ndarray  # (n, 4, 4) f32 mesh_from_camera
    times: np.ndarray  # (n, 2) u64 microseconds: colour, depth; often 0
    offsets: np.ndarray  # (n, 2) i64 bytes from the start of the file: colour, depth
    sizes: np.ndarray  # (n, 2) i64 bytes: colour, depth
    imu_count: int  # whole records of the IMU block, which nothing here reads
    cut: str  # a sentence where the file ends too early; empty where it is whole


def _read_exactly(file: BinaryIO, count: int, path: Path, what: str) -> bytes:
    got = file.read(count)
    if len(got) < count:
        raise ScanError(
            f"{path}: cut short in {what}: expected {count} bytes there, got {len(got)}."
        )
    return got


def _read_header(file: BinaryIO, path: Path) -> SensHeader:
    version, length = _START.unpack(_read_exactly(file, _START.size, path, "the header"))
    if version != VERSION:
        raise ScanError(f"{path}: expected a .sens file of version {VERSION}, got {version}.")
    if length > LONGEST_NAME:
        raise ScanError(f"{path}: expected the length of a sensor's name, got {length} bytes.")
    name = _read_exactly(file, length, path, "the sensor's name")
    rest = _REST.unpack(_read_exactly(file, _REST.size, path, "the header"))
    color_k, color_e, depth_k, depth_e = np.array(rest[:64], np.float32).reshape(4, 4, 4)
    color_codec, depth_codec, *sides, shift = rest[64:]
    known = color_codec in ColorCodec.__members__.values()
    if not known or depth_codec not in DepthCodec.__members__.values():
        raise ScanError(
            f"{path}: expected colour codec 0 (raw), 1 (PNG) or 2 (JPEG) and depth codec 0 (raw) "
            f"or 1 (zlib), got {color_codec} and {depth_codec}."
        )
    if depth_codec == DepthCodec.OCC:
        raise ScanError(
            f"{path}: expected raw or zlib depth, got codec 2 (OCC), which only its maker's "
            "library decodes; write the file again with zlib depth."
        )
    if not all(0 < side <= LARGEST_SIDE for side in sides):
        raise ScanError(f"{path}: expected image sizes up to {LARGEST_SIDE} pixels, got {sides}.")
    if not 0 < shift < 1e9:
        raise ScanError(f"{path}: expected depth units in a metre such as 1000, got {shift}.")
    return SensHeader(
        name.decode("utf-8", "replace"),
        color_k,
        color_e,
        depth_k,
        depth_e,
        ColorCodec(color_codec),
        DepthCodec(depth_codec),
        (sides[0], sides[1]),
        (sides[2], sides[3]),
        shift,
    )


def read_index(path: Path) -> SensIndex:
    """Reads the header and the 96 bytes at the head of every frame; pixels are passed over.

    A file that ends too early gives the frames that are whole, and says in `cut` at which byte of
    which frame it ends.

    Raises:
        ScanError: no such file; not a .sens file of version 4; cut short in the header; a codec
            that nobody can decode.
    """
    if not path.is_file():
        raise ScanError(f"{path}: expected a .sens file, found none.")
    with path.open("rb", buffering=0) as file:
        header = _read_header(file, path)
        (count,) = _COUNT.unpack(_read_exactly(file, _COUNT.size, path, "the number of frames"))
        end, at = os.fstat(file.fileno()).st_size, file.tell()
        heads, starts, cut = [], [], ""
        while len(heads) < count and not cut:
            head = os.pread(file.fileno(), _HEAD.size, at)
            need = _HEAD.size + (sum(_HEAD.unpack(head)[-2:]) if len(head) == _HEAD.size else 0)
            if at + need > end:
                cut = _cut_frame(path, len(heads), count, at, head, end)
                break
            heads.append(head)
            starts.append(at + _HEAD.size)
            at += need
        imu_count = 0
        if not cut:
            imu_count, cut = _imu_block(file, path, at, end)
    table = np.frombuffer(b"".join(heads), _HEAD_DTYPE)
    start, sizes = np.array(starts, np.int64), table["sizes"].astype(np.int64)
    return SensIndex(
        path=path,
        header=header,
        frame_count=count,
        poses=table["pose"],
        times=table["times"],
        offsets=np.stack([start, start + sizes[:, 0]], axis=1),
        sizes=sizes,
        imu_count=imu_count,
        cut=cut,
    )


def _cut_frame(path: Path, row: int, count: int, at: int, head: bytes, end: int) -> str:
    if len(head) < _HEAD.size:
        part, need, there = "its head", _HEAD.size, len(head)
    else:
        color, depth = _HEAD.unpack(head)[-2:]
        start = at + _HEAD.size
        if start + color > end:
            part, need, there = "its colour image", color, end - start
        else:
            part, need, there = "its depth image", depth, end - start - color
    return (
        f"{path}: cut short at byte {end} in frame {row} of {count}: {part} needs {need} bytes, "
        f"{there} are there; {row} whole frames come before it."
    )


def _imu_block(file: BinaryIO, path: Path, at: int, end: int) -> tuple[int, str]:
    """The number of whole IMU records, and what is missing. A file may lack the block altogether:
    many tools that write .sens files leave it out, and no frame needs it.
    """
    count_bytes = os.pread(file.fileno(), _COUNT.size, at)
    if not count_bytes:
        return 0, ""
    whole = max(end - at - _COUNT.size, 0) // IMU_DTYPE.itemsize
    if len(count_bytes) < _COUNT.size:
        return 0, f"{path}: cut short at byte {end} in the IMU block; all frames are whole."
    (count,) = _COUNT.unpack(count_bytes)
    if whole < count:
        return whole, (
            f"{path}: cut short at byte {end} in IMU record {whole} of {count}; all frames are "
            "whole."
        )
    return count, ""


# --- pixels --------------------------------------------------------------------------------------


def _blob(index: SensIndex, row: int, part: int) -> bytes:
    with index.path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), int(index.sizes[row, part]), int(index.offsets[row, part]))


def color_bytes(index: SensIndex, row: int) -> bytes:
    """The stored colour image of a frame: a JPEG or PNG file, or raw pixels."""
    return _blob(index, row, 0)


def depth_bytes(index: SensIndex, row: int) -> bytes:
    """The stored depth image of a frame."""
    return _blob(index, row, 1)


def color(index: SensIndex, row: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Raises:
        ScanError: it does not decode, or is of another size than the header states.
    """
    header, blob = index.header, color_bytes(index, row)
    where = f"{index.path}: colour of frame {row}"
    width, height = header.color_size
    if header.color_codec == ColorCodec.RAW:
        if len(blob) != width * height * 3:
            raise ScanError(f"{where}: expected {width * height * 3} bytes, got {len(blob)}.")
        return np.frombuffer(blob, np.uint8).reshape(height, width, 3)
    try:
        with Image.open(io.BytesIO(blob), formats=(header.color_codec.name,)) as image:
            pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except DAMAGED as error:
        raise ScanError(
            f"{where}: expected a {header.color_codec.name} image, but {len(blob)} bytes do not "
            f"decode ({error})."
        ) from error
    if pixels.shape != (height, width, 3):
        got = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise ScanError(f"{where}: expected {width}x{height} pixels, got {got}.")
    return pixels


def depth(index: SensIndex, row: int) -> np.ndarray:
    """(H, W) uint16 millimetres along z, 0 where nothing was measured.

    Raises:
        ScanError: there is none, or it does not decode.
    """
    header, blob = index.header, depth_bytes(index, row)
    where = f"{index.path}: depth of frame {row}"
    width, height = header.depth_size
    expected = width * height * 2
    if not blob:
        raise ScanError(f"{where}: expected an image, got 0 bytes.")
    if header.depth_codec == DepthCodec.ZLIB:
        try:
            blob = zlib.decompressobj().decompress(blob, expected + 1)
        except zlib.error as error:
            raise ScanError(f"{where}: expected zlib data ({error}).") from error
    if len(blob) != expected:
        got = f"more than {expected}" if len(blob) > expected else str(len(blob))
        raise ScanError(f"{where}: expected {expected} bytes of uint16, got {got}.")
    units = np.frombuffer(blob, "<u2").reshape(height, width)
    if header.depth_shift == 1000.0:
        return units.astype(np.uint16, copy=False)
    millimetres = np.rint(units * (1000.0 / header.depth_shift))
    return np.minimum(millimetres, 65535).astype(np.uint16)


# --- writing -------------------------------------------------------------------------------------


def encode_color(pixels: np.ndarray, codec: ColorCodec) -> bytes:
    """(H, W, 3) uint8 as it is stored."""
    if codec == ColorCodec.RAW:
        return np.ascontiguousarray(pixels, np.uint8).tobytes()
    buffer = io.BytesIO()
    options = {"quality": JPEG_QUALITY, "subsampling": 0} if codec == ColorCodec.JPEG else {}
    Image.fromarray(pixels).save(buffer, codec.name, **options)
    return buffer.getvalue()


def encode_depth(units: np.ndarray, codec: DepthCodec) -> bytes:
    """(H, W) uint16 as it is stored."""
    raw = np.ascontiguousarray(units, "<u2").tobytes()
    if codec == DepthCodec.OCC:
        raise ValueError("expected raw or zlib depth: nobody but its maker can write OCC.")
    return zlib.compress(raw) if codec == DepthCodec.ZLIB else raw


def write_sens(
    path: Path,
    header: SensHeader,
    frames: Iterable[SensFrame],
    imu: np.ndarray | None = None,
) -> None:
    """Writes a .sens file, frame by frame as they come. `imu`: (m,) records of `IMU_DTYPE`."""
    name = header.sensor.encode()
    matrices = (
        header.color_intrinsics,
        header.color_extrinsics,
        header.depth_intrinsics,
        header.depth_extrinsics,
    )
    with path.open("wb") as file:
        file.write(_START.pack(VERSION, len(name)) + name)
        file.write(np.concatenate([np.ravel(one) for one in matrices]).astype("<f4").tobytes())
        file.write(struct.pack("<2i", header.color_codec, header.depth_codec))
        file.write(struct.pack("<4If", *header.color_size, *header.depth_size, header.depth_shift))
        counter = file.tell()
        file.write(_COUNT.pack(0))
        count = 0
        for frame in frames:
            file.write(np.asarray(frame.pose).astype("<f4").tobytes())
            times = (frame.color_time, frame.depth_time)
            file.write(struct.pack("<4Q", *times, len(frame.color), len(frame.depth)))
            file.write(frame.color)
            file.write(frame.depth)
            count += 1
        records = np.zeros(0, IMU_DTYPE) if imu is None else imu.astype(IMU_DTYPE)
        file.write(_COUNT.pack(len(records)) + records.tobytes())
        file.seek(counter)
        file.write(_COUNT.pack(count))
