"""The `sens` subject of `launch.bench`: how fast a .sens file of ScanNet's sizes is read.

A file of pictures and depth images of the real sizes, and made so that they compress as real ones
do. Beside each rate stands what nothing can beat: the decoder's library alone, on bytes that are in
memory; for the index, a reader that reads every byte of the file on its way. Files are in the
page cache; a disk of 500 MB/s would allow about 1,500 frames a second.
"""

import concurrent.futures
import io
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_pipelines import sens

COLOR_SIZE, DEPTH_SIZE = (1296, 968), (640, 480)  # ScanNet's
DISTINCT = 8  # different frames; the file repeats them
JPEG_QUALITY = 93  # with the depth near half a megabyte a frame, as in all of ScanNet
DISPARITY_STEP = 2e-6  # 1/mm; a structured-light sensor measures in such steps


class Rate(NamedTuple):
    """One line of the table."""

    what: str
    per_s: float
    bound: str
    bound_per_s: float


def _smooth(rng: np.random.Generator, size: tuple[int, int], channels: int) -> np.ndarray:
    """(H, W, channels) f32 of broad shapes, 0 to 1."""
    coarse = rng.random((9, 12, channels), np.float32)
    planes = [
        Image.fromarray(coarse[..., channel]).resize(size, Image.Resampling.BICUBIC)
        for channel in range(channels)
    ]
    return np.clip(np.stack([np.asarray(plane) for plane in planes], axis=-1), 0, 1)


def frame(
    seed: int, color_size: tuple[int, int] = COLOR_SIZE, depth_size: tuple[int, int] = DEPTH_SIZE
) -> sens.SensFrame:
    """Broad shapes with a sensor's noise; one depth pixel in seven was not measured."""
    rng = np.random.default_rng(seed)
    color = 220 * _smooth(rng, color_size, 3) + rng.normal(10, 3, (*color_size[::-1], 1))
    picture = io.BytesIO()
    pixels = np.clip(color, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(picture, "JPEG", quality=JPEG_QUALITY)
    depth = 800 + 3000 * _smooth(rng, depth_size, 1)[..., 0]
    disparity = 1 / depth + rng.normal(0, DISPARITY_STEP / 2, depth.shape)
    depth = 1 / (np.rint(disparity / DISPARITY_STEP) * DISPARITY_STEP)
    depth[_smooth(rng, depth_size, 1)[..., 0] < 0.3] = 0
    stored = sens.encode_depth(np.rint(depth).astype(np.uint16), sens.DepthCodec.ZLIB)
    return sens.SensFrame(np.eye(4), picture.getvalue(), stored)


def write_file(path: Path, count: int) -> None:
    """A .sens file of `count` frames."""
    eye = np.eye(4, dtype=np.float32)
    header = sens.SensHeader(
        "bench",
        *(eye, eye, eye, eye),
        sens.ColorCodec.JPEG,
        sens.DepthCodec.ZLIB,
        COLOR_SIZE,
        DEPTH_SIZE,
    )
    frames = [frame(seed) for seed in range(min(DISTINCT, count))]
    sens.write_sens(path, header, (frames[row % len(frames)] for row in range(count)))


def _per_second(call: Callable[[], object], items: int, repeats: int) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return items / float(np.median(seconds))


def _read_every_byte(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def time_sens(count: int, repeats: int) -> list[Rate]:
    """Rates of indexing and decoding a file of `count` frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.sens"
        write_file(path, count)
        index = sens.read_index(path)
        rows = range(count)
        colors = [sens.color_bytes(index, row) for row in rows]
        depths = [sens.depth_bytes(index, row) for row in rows]

        def every(decode: Callable[[int], object]) -> Callable[[], object]:
            return lambda: [decode(row) for row in rows]

        def plain_color(row: int) -> object:
            return Image.open(io.BytesIO(colors[row])).load()

        def both(row: int) -> None:
            sens.color(index, row)
            sens.depth(index, row)

        def rate(call: Callable[[], object]) -> float:
            return _per_second(call, count, repeats)

        cores = len(os.sched_getaffinity(0))
        with concurrent.futures.ThreadPoolExecutor(cores) as pool:
            together = rate(lambda: list(pool.map(both, rows)))
        color_alone, depth_alone = (
            rate(every(plain_color)),
            rate(every(lambda row: zlib.decompress(depths[row]))),
        )
        alone = cores / (1 / color_alone + 1 / depth_alone)
        return [
            Rate(
                "index",
                rate(lambda: sens.read_index(path)),
                "every byte read",
                rate(lambda: _read_every_byte(path)),
            ),
            Rate("depth", rate(every(lambda row: sens.depth(index, row))), "zlib", depth_alone),
            Rate("colour", rate(every(lambda row: sens.color(index, row))), "Pillow", color_alone),
            Rate(f"both, {cores} threads", together, f"the two on {cores} cores", alone),
        ]


def table(rates: Sequence[Rate]) -> str:
    """A Markdown table."""
    rows = [
        "| what | frames/s | against | frames/s | share |",
        "| --- | ---: | --- | ---: | ---: |",
    ]
    rows += [
        f"| {one.what} | {one.per_s:,.0f} | {one.bound} | {one.bound_per_s:,.0f} "
        f"| {one.per_s / one.bound_per_s:.2f} |"
        for one in rates
    ]
    return "\n".join(rows)
