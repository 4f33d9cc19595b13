"""What files of a checkpoint were when they were written: their sizes and checksums."""

import json
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax

from spatialevo_jax import hosts

MANIFEST = "manifest.json"
FORM = 1  # of a checkpoint; another one is not read
CHUNK = 1 << 24  # bytes that are read at once
READERS = 8  # threads that compute checksums


def write(folder: Path, files: Sequence[Path]) -> None:
    """Writes the manifest of these files, which lie in the folder."""
    names = [path.relative_to(folder).as_posix() for path in files]
    with ThreadPoolExecutor(READERS) as readers:
        sums = list(readers.map(_checksum, files))
    entries = {
        name: {"bytes": path.stat().st_size, "crc32": total}
        for name, path, total in zip(names, files, sums, strict=True)
    }
    text = json.dumps({"form": FORM, "files": entries}, indent=1)
    (folder / MANIFEST).write_text(text + "\n")


def _checksum(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            total = zlib.crc32(chunk, total)
    return total


def fault(folder: Path, largest: int | None = None) -> str | None:
    """What is no longer as it was written, in a phrase that names a file; None if all is. Processes
    share the work and must call this together.

    Args:
        largest: bytes of the largest file whose checksum is compared; None compares all.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        form, files = manifest["form"], manifest["files"]
        expected = [(folder / name, one["bytes"], one["crc32"]) for name, one in files.items()]
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"{MANIFEST} is damaged"
    if form != FORM:
        return f"it has the form {form}, this version reads {FORM}"

    def compare(one: tuple[Path, int, int]) -> str | None:
        path, size, total = one
        name = path.relative_to(folder)
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} of {size} bytes"
        if (largest is None or size <= largest) and _checksum(path) != total:
            return f"{name} has other bytes than were written"
        return None

    own, count = jax.process_index(), jax.process_count()
    with ThreadPoolExecutor(READERS) as readers:
        found = next((x for x in readers.map(compare, expected[own::count]) if x), None)
    return next((x for x in hosts.gather({own: found}, count) if x), None)
