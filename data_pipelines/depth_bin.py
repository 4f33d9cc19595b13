"""The depth of a ScanNet++ iPhone video: depth.bin, in any of its forms.

Frames are 256 x 192. A file is either one raw DEFLATE stream of float32 metres, or, frame by frame,
a u32 byte count (little-endian) and a block of as many bytes: LZ4 of u16 millimetres, or raw
DEFLATE of float32 metres.
"""

import bisect
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lz4.block
import numpy as np

from data_pipelines.scan import ScanError

WIDTH, HEIGHT = SIZE = (256, 192)
PIXELS = WIDTH * HEIGHT
SHORT_BYTES, FLOAT_BYTES = 2 * PIXELS, 4 * PIXELS
LARGEST_BLOCK = FLOAT_BYTES + FLOAT_BYTES // 8  # what does not shrink may grow a little
RAW = -zlib.MAX_WBITS  # DEFLATE without a header
PIECE = 1 << 19  # bytes of a stream from one place where reading can begin to the next

Form = Literal["lz4", "deflate", "stream"]


class FramedDepth:
    """A file of one block for each frame."""

    def __init__(self, path: Path, offsets: np.ndarray, sizes: np.ndarray):
        self.path = path
        self.sizes = sizes  # (N,) bytes of the blocks; 0 where a frame has no depth
        self._offsets = offsets  # (N,)

    def frame(self, row: int) -> np.ndarray:
        """(192, 256) uint16 millimetres, 0 where nothing was measured.

        Raises:
            ScanError: the block is of no known form.
        """
        depth = _decode_block(_read(self.path, self._offsets[row], self.sizes[row]))
        if depth is None:
            raise ScanError(
                f"{self.path}: frame {row}: expected LZ4 of {SHORT_BYTES} bytes or DEFLATE of "
                f"{FLOAT_BYTES}, got a block of {self.sizes[row]} bytes that is neither."
            )
        return depth


class _Entry(NamedTuple):
    """A place in a stream where reading can begin."""

    offset: int  # in the file
    produced: int  # bytes that the stream has given up to there
    state: Any  # a decompressor; it is copied, never used


class StreamDepth:
    """A file that is one stream. It is inflated once to find its length and places to begin at."""

    def __init__(self, path: Path):
        self.path = path
        self._entries: list[_Entry] = []
        stream, produced = zlib.decompressobj(RAW), 0
        with path.open("rb") as file:
            while not stream.eof:
                self._entries.append(_Entry(file.tell(), produced, stream.copy()))
                piece = file.read(PIECE)
                try:
                    produced += len(stream.decompress(piece))
                except zlib.error as error:
                    raise ScanError(
                        f"{path}: expected a stream of float32 or one block for each frame, "
                        f"found neither ({error})."
                    ) from error
                if not piece:
                    raise ScanError(
                        f"{path}: expected a whole stream, but it is cut short in frame "
                        f"{produced // FLOAT_BYTES}."
                    )
            rest = path.stat().st_size - file.tell() + len(stream.unused_data)
        if produced % FLOAT_BYTES or rest:
            raise ScanError(
                f"{path}: expected frames of {FLOAT_BYTES} bytes and nothing after them, got a "
                f"stream of {produced} bytes and {rest} after it."
            )
        self.sizes = np.full(produced // FLOAT_BYTES, FLOAT_BYTES)  # (N,)

    def __reduce__(self):
        return StreamDepth, (self.path,)  # decompressors can't be pickled

    def frame(self, row: int) -> np.ndarray:
        """As of `FramedDepth`."""
        start = row * FLOAT_BYTES
        places = [entry.produced for entry in self._entries]
        offset, produced, state = self._entries[bisect.bisect_right(places, start) - 1]
        stream, pieces = state.copy(), b""
        while produced + len(pieces) < start + FLOAT_BYTES:
            piece = _read(self.path, offset, PIECE)
            if not piece:
                raise ScanError(f"{self.path}: frame {row}: the file is shorter than it was.")
            pieces, offset = pieces + stream.decompress(piece), offset + len(piece)
        first = start - produced
        return _millimetres(pieces[first : first + FLOAT_BYTES])


def read_depths(path: Path) -> FramedDepth | StreamDepth:
    """Finds out the form of a file, and where its frames are.

    Raises:
        ScanError: missing, empty, cut short, or of no known form.
    """
    if not path.is_file():
        raise ScanError(f"{path}: expected depth, found no such file.")
    size = path.stat().st_size
    if not size:
        raise ScanError(f"{path}: expected depth, got a file of 0 bytes.")
    offsets, sizes, known = [], [], False
    with path.open("rb") as file:
        end = 0
        while end < size:
            file.seek(end)
            count = int.from_bytes(file.read(4), "little")
            offsets.append(end + 4)
            sizes.append(count)
            end += 4 + count
            if count and not known:
                known = count <= LARGEST_BLOCK and _decode_block(file.read(count)) is not None
                if not known:
                    return StreamDepth(path)
    if end > size:
        raise ScanError(
            f"{path}: expected {end} bytes or more, got {size}: it is cut short in frame "
            f"{len(sizes) - 1}."
        )
    return FramedDepth(path, np.array(offsets), np.array(sizes))


def _read(path: Path, offset: int, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(int(offset))
            return file.read(int(count))
    except OSError as error:
        raise ScanError(f"{path}: expected a file that can be read ({error}).") from error


def _decode_block(block: bytes) -> np.ndarray | None:
    """(192, 256) uint16 millimetres, or None where the block is of no known form."""
    try:
        content = lz4.block.decompress(block, uncompressed_size=SHORT_BYTES)
    except lz4.block.LZ4BlockError:
        content = b""
    if len(content) == SHORT_BYTES:
        return np.frombuffer(content, "<u2").reshape(HEIGHT, WIDTH).astype(np.uint16)
    try:
        content = zlib.decompress(block, RAW)
    except zlib.error:
        return None
    return _millimetres(content) if len(content) == FLOAT_BYTES else None


def _millimetres(metres: bytes) -> np.ndarray:
    depth = np.nan_to_num(np.frombuffer(metres, "<f4"), nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(np.rint(depth * 1000.0), 0, 65535).astype(np.uint16).reshape(HEIGHT, WIDTH)


def write_depths(path: Path, frames: Iterable[np.ndarray], form: Form) -> None:
    """Writes (192, 256) uint16 millimetres."""
    stream = zlib.compressobj(wbits=RAW)
    with path.open("wb") as file:
        for depth in frames:
            if depth.shape != (HEIGHT, WIDTH):
                raise ValueError(f"{path}: expected depth of {HEIGHT}x{WIDTH}, got {depth.shape}.")
            metres = (depth / 1000.0).astype("<f4").tobytes()
            if form == "stream":
                file.write(stream.compress(metres))
                continue
            if form == "lz4":
                block = lz4.block.compress(depth.astype("<u2").tobytes(), store_size=False)
            else:
                one = zlib.compressobj(wbits=RAW)
                block = one.compress(metres) + one.flush()
            file.write(len(block).to_bytes(4, "little") + block)
        if form == "stream":
            file.write(stream.flush())
