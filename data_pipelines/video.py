"""Single frames of a video file, found by their number and decoded when asked for."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import numpy as np
from av.container import InputContainer

from data_pipelines.scan import ScanError

KEYFRAME_EVERY = 30  # frames, of the videos that we write
QUALITY = 12  # x264's constant rate factor: 0 is lossless, 18 is taken for faithful


class VideoIndex(NamedTuple):
    """Where the frames of a file are."""

    path: Path
    size: tuple[int, int]  # width, height
    times: np.ndarray  # (N,) i64, ascending, in the stream's own unit; row n is frame n
    keyframes: np.ndarray  # (k,) rows that can be decoded without the ones before


def read_index(path: Path) -> VideoIndex:
    """Reads all packets of the first video stream and decodes none.

    Raises:
        ScanError: no video, or one without frames or times.
    """
    if not path.is_file():
        raise ScanError(f"{path}: expected a video, found none.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ScanError(f"{path}: expected a video stream, found none.")
            stream = container.streams.video[0]
            size = (stream.width, stream.height)
            packets = [
                (packet.pts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.size
            ]
    except (av.error.FFmpegError, OSError) as error:
        raise ScanError(f"{path}: expected a whole video ({error}).") from error
    if not packets or any(time is None for time, _ in packets):
        raise ScanError(f"{path}: expected frames with times, found {len(packets)} without.")
    packets.sort()  # files keep frames in the order of decoding
    times = np.array([time for time, _ in packets], np.int64)
    return VideoIndex(path, size, times, np.flatnonzero([key for _, key in packets]))


class Video:
    """Decodes frames of an indexed file. Frames in order are decoded one after the other; a jump
    goes to the keyframe before. Every process, and every copy, opens the file for itself.
    """

    def __init__(self, index: VideoIndex):
        self.index = index
        self._process = -1  # which opened the file; a file can't be shared after a fork
        self._container: InputContainer | None = None
        self._decoded: Iterator[av.VideoFrame] = iter(())
        self._next = 0  # the row that `_decoded` gives next

    def __reduce__(self):
        return Video, (self.index,)

    def frame(self, row: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB.

        Raises:
            IndexError: no such frame.
            ScanError: it does not decode.
        """
        times = self.index.times
        if not 0 <= row < len(times):
            raise IndexError(f"{self.index.path}: expected a frame below {len(times)}, got {row}.")
        problem = "it is not where the file's index says"
        try:
            self._go_to(row)
            for frame in self._decoded:
                if frame.pts == times[row]:
                    self._next = row + 1
                    return frame.to_ndarray(format="rgb24")
                if frame.pts is not None and frame.pts > times[row]:
                    break
        except (av.error.FFmpegError, OSError) as error:
            problem = str(error)
        self._process = -1
        raise ScanError(f"{self.index.path}: expected frame {row} to decode ({problem}).")

    def _go_to(self, row: int) -> None:
        """Makes `_decoded` give `row` soon: nothing to do where no keyframe lies on the way."""
        keys = self.index.keyframes
        key = max(int(np.searchsorted(keys, row, side="right")) - 1, 0)
        if self._process != os.getpid() or self._container is None:
            self._container = av.open(str(self.index.path))
            self._process = os.getpid()
        elif self._next <= row and keys[key] <= self._next:
            return
        stream = self._container.streams.video[0]
        self._container.seek(int(self.index.times[keys[key]]), stream=stream)
        self._decoded, self._next = self._container.decode(stream), row


def write_video(path: Path, frames: Iterable[np.ndarray], *, rate: int = 60) -> None:
    """Writes (H, W, 3) uint8 pictures of one size as H.264: with colours at half the resolution, as
    phones do, where both sides are even.
    """
    with av.open(str(path), "w") as container:
        stream = None
        for pixels in frames:
            if stream is None:
                height, width = pixels.shape[:2]
                options = {"crf": str(QUALITY)}
                stream = container.add_stream("libx264", rate=rate, options=options)
                stream.width, stream.height = width, height
                stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
                stream.gop_size = KEYFRAME_EVERY
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        if stream is not None:
            for packet in stream.encode():
                container.mux(packet)
