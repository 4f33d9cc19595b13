"""The size that the pictures of a folder have, of which single ones may be damaged."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

NO_SIZE = (0, 0)
ASKED = 15  # pictures, evenly strided: most of them have the size


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
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
