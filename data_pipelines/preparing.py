"""Raw data sets -> unified scenes on disk, one scan at a time; and rooms as raw scans.

A scene is current when it is complete and was made with the same settings from the same raw files:
the same names and sizes, and for small files the same bytes. A file that was missing counts too: an
alignment that is downloaded later makes another scene.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from data_pipelines import arkitscenes, preview, scannet, scannetpp, unified
from data_pipelines.building import BuildSettings, Built, build
from data_pipelines.scan import Scan, ScanError
from data_pipelines.writers import arkitscenes as arkitscenes_writer
from data_pipelines.writers import scannet as scannet_writer
from data_pipelines.writers import scannetpp as scannetpp_writer

EDGE = 1 << 20  # bytes at both ends of a file that its fingerprint sees
SMALL = 1 << 20  # bytes; a file of no more is compared byte by byte
PREVIEWS = "preview"  # folder beside the splits
# What odd raw data, or a fault of ours, may end one scan with. The run goes on without it.
UNFORESEEN = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError)
UNFORESEEN += (TypeError, ValueError)


@dataclasses.dataclass(frozen=True)
class Format:
    """A raw data set: how it is read and written."""

    list_scans: Callable[[Path], tuple[str, ...]]
    read_scan: Callable[..., Scan]
    write_scan: Callable[..., None]
    scene_id: Callable[[str], str]  # of a source id
    options: tuple[str, ...]  # keyword arguments of `read_scan` that a user may set


FORMATS: dict[str, Format] = {
    "scannet": Format(
        scannet.list_scans,
        scannet.read_scan,
        scannet_writer.write_scan,
        str,
        ("resolution", "split_lists", "keep_whole_frames"),
    ),
    "scannetpp": Format(
        scannetpp.list_scans,
        scannetpp.read_scan,
        scannetpp_writer.write_scan,
        "scene{}_00".format,
        ("camera", "part"),
    ),
    "arkitscenes": Format(
        arkitscenes.list_scans,
        arkitscenes.read_scan,
        arkitscenes_writer.write_scan,
        "scene{}_00".format,
        ("source",),
    ),
}


@dataclasses.dataclass(frozen=True)
class Job:
    """What is the same for all scans of a run."""

    dataset: str  # of `FORMATS`
    raw: Path
    out: Path
    settings: BuildSettings
    options: Mapping[str, Any]  # of the reader
    split: str | None = None  # "train" or "val"; None: as the data set says
    preview: bool = False

    def recipe(self) -> dict[str, Any]:
        """What decides the scenes beside the raw data, as JSON has it."""
        made = dataclasses.asdict(self.settings) | {
            "schema_version": unified.SCHEMA_VERSION,
            "reader": {name: _described(value) for name, value in sorted(self.options.items())},
        }
        return json.loads(json.dumps(made))


class Outcome(NamedTuple):
    """What became of one scan; a line of the report."""

    source_id: str
    scene_id: str
    status: Literal["done", "skipped", "failed"]
    why: str  # for `skipped` and `failed`
    seconds: float
    split: str = ""
    objects: int = 0
    frames: int = 0  # with a picture
    poses: int = 0
    room_size: float | None = None  # square metres
    quality: float | None = None  # 0 to 1
    coverage: float | None = None
    unknown_labels: tuple[str, ...] = ()
    dropped_labels: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()  # frames and objects, each with the reason
    notes: tuple[str, ...] = ()


class WriteError(RuntimeError):
    """The scenes' folder can't be written to; the next scan would fare no better."""


def current_scene(job: Job, source_id: str) -> str | None:
    """The split in which the scan's scene lies ready; None where it is to be made (again)."""
    scene_id = FORMATS[job.dataset].scene_id(source_id)
    for split in unified.SPLITS if job.split is None else (job.split,):
        if not unified.is_complete(job.out, split, scene_id):
            continue
        path = job.out / "metadata" / scene_id / f"{scene_id}.json"
        try:
            origin = json.loads(path.read_text(encoding="utf-8"))["provenance"]
            files = {one["name"]: one for one in origin["files"]}
            same = origin["settings"] == job.recipe() and all(
                stamp(job.raw, job.raw / name) == one for name, one in files.items()
            )
        except (ValueError, LookupError, TypeError, OSError):
            return None  # whoever makes it again says what can't be read
        if same:
            return split
    return None


def _described(option: Any) -> str:
    """An option of a reader as a recipe has it: of a folder what is in it, not where it is."""
    return _digest(_listing(option)) if isinstance(option, Path) else str(option)


def _listing(folder: Path) -> bytes:
    """Names and sizes of all in a folder."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    return json.dumps(sorted(sizes.items())).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stamp(raw: Path, path: Path) -> dict[str, Any]:
    """Whether a file or a folder of files has changed shows in this record, as JSON: its name below
    `raw`, its size in bytes (null where it is missing), and a digest of a small file's content or
    of a folder's listing.
    """
    told: dict[str, Any] = {"name": Path(os.path.relpath(path, raw)).as_posix(), "bytes": None}
    if path.is_dir():
        return told | {"sha256": _digest(_listing(path))}
    if path.is_file():
        told["bytes"] = path.stat().st_size
        if told["bytes"] <= SMALL:
            told["sha256"] = _digest(path.read_bytes())
    return told


def prepare_scan(job: Job, source_id: str) -> Outcome:
    """Makes one scene, unless it is there; runs in a worker process.

    Whatever is wrong with the scan ends as a failed outcome.

    Raises:
        WriteError: nothing can be written.
    """
    started = time.monotonic()
    scene_id = FORMATS[job.dataset].scene_id(source_id)

    def failed(why: str) -> Outcome:
        why = " ".join(why.split()).encode(errors="backslashreplace").decode()
        return Outcome(source_id, scene_id, "failed", why, _seconds_since(started))

    try:
        split = current_scene(job, source_id)
        if split is None:
            scan = FORMATS[job.dataset].read_scan(job.raw, source_id, **job.options)
            split = job.split or scan.split
            built = build(scan, job.settings)
            details = unified.Details(
                "dataset" if built.aligned_by_dataset else "estimated",
                scan.is_video,
                built.quality,
                _provenance(job, scan),
            )
        else:
            built = details = None
    except (ScanError, OSError) as error:
        return failed(str(error))
    except UNFORESEEN as error:
        return failed(_unforeseen(error))
    picture = job.out / PREVIEWS / f"{scene_id}.png"
    try:
        if built is not None:
            source = dataclasses.replace(built.source, details=details)
            unified.write_scene(job.out, split, source)
        if job.preview and not (built is None and picture.is_file()):
            preview.write(job.out, scene_id, picture)
    except OSError as error:
        if error.errno is None:  # a picture that does not decode
            return failed(f"{picture}: expected to draw the finished scene ({error}).")
        raise WriteError(
            f"{job.out}: expected to write scene {scene_id}, but {_reason(error)}; nothing of it "
            "is left there. Finished scenes are kept: the same command goes on."
        ) from error
    except UNFORESEEN as error:
        return failed(_unforeseen(error))
    if built is None:
        return Outcome(
            source_id, scene_id, "skipped", "it is ready", _seconds_since(started), split
        )
    return _done(source_id, split, built, _seconds_since(started))


def _unforeseen(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"unforeseen {type(error).__name__} ({error}) in {Path(where.filename).name}, line "
        f"{where.lineno}; please report it."
    )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _seconds_since(started: float) -> float:
    return round(time.monotonic() - started, 2)


def _done(source_id: str, split: str, built: Built, seconds: float) -> Outcome:
    source, score = built.source, built.quality.score
    return Outcome(
        source_id,
        source.scene_id,
        "done",
        "",
        seconds,
        split,
        objects=len(source.objects),
        frames=len(source.frames),
        poses=len(source.poses),
        room_size=None if source.room_size is None else round(source.room_size, 3),
        quality=None if score != score else round(score, 4),
        coverage=round(built.coverage, 4),
        unknown_labels=built.unknown_labels,
        dropped_labels=built.dropped_labels,
        left_out=tuple(f"{one.what}: {one.why}" for one in built.skipped),
        notes=built.notes,
    )


def _provenance(job: Job, scan: Scan) -> unified.Provenance:
    paths = sorted(scan.files)
    files = [stamp(job.raw, path) for path in paths]
    digest = hashlib.sha256(json.dumps(files).encode())
    for path in filter(Path.is_file, paths):
        with path.open("rb") as file:
            digest.update(file.read(EDGE))
            file.seek(max(EDGE, path.stat().st_size - EDGE))
            digest.update(file.read(EDGE))
    return unified.Provenance(
        scan.dataset,
        scan.source_id,
        tuple(files),
        digest.hexdigest(),
        job.recipe(),
        f"spatialevo-jax {importlib.metadata.version('spatialevo-jax')}",
    )
