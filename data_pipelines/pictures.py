"""Pictures of raw data: their pixels, and the size that those of a folder have, of which single
ones may be damaged.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.scan import ScanError

NO_SIZE = (0, 0)
ASKED = 15  # pictures, evenly strided: most of them have the size
# What Pillow raises for files that are no pictures, or damaged ones.
DAMAGED = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_picture(path: Path, size: tuple[int, int], *, deep: bool = False) -> np.ndarray:
    """(H, W, 3) uint8 RGB; `deep`: (H, W) uint16, of one channel of 16 bits.

    Args:
        size: width and height that it must have.

    Raises:
        ScanError: it is missing, does not decode, or is of another size or depth.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            pixels = np.asarray(image if deep else image.convert("RGB"))
    except DAMAGED as error:
        raise ScanError(f"{path}: expected an image, cannot read it ({error}).") from error
    if deep and not mode.startswith("I"):
        raise ScanError(f"{path}: expected 16 bits a pixel, got mode {mode}.")
    if pixels.shape[1::-1] != size:
        got = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise ScanError(f"{path}: expected {size[0]}x{size[1]} pixels, got {got}.")
    return pixels.astype(np.uint16) if deep else pixels


def usual_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Width and height of most pictures, by their heads; `NO_SIZE` where none can be read. The
    others are found when they are decoded.
    """
    strided = paths[:: max(1, len(paths) // ASKED)]
    found = Counter(filter(None, map(_size, strided))) or Counter(filter(None, map(_size, paths)))
    return found.most_common(1)[0][0] if found else NO_SIZE


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            return image.size
    except DAMAGED:
        return None
