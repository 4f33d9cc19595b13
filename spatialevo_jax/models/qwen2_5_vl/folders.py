"""The two forms of a model folder, and the way between them.

As released: config.json, safetensors files with or without an index, tokenizer and processor files.
Ours:

    params/        the parameters, an orbax checkpoint; each keeps the type of its tensors. Beside
                   its files manifest.json, with the size and checksum of each
    hf/            every other file of the released folder, byte by byte
    layout.json    which tensors stood in which safetensors file, in the order of their bytes, and
                   the types of the parameters

so that the way back gives the same files. A folder is written beside its place and renamed when it
is whole. The folder of a training run that began from a model has hf/ and layout.json too, and its
checkpoints in place of params/, each with a manifest of its own.
"""

import contextlib
import dataclasses
import functools
import glob
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from spatialevo_jax import lora, manifest
from spatialevo_jax.locks import lock
from spatialevo_jax.models.qwen2_5_vl import safetensors_io, weights
from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig
from spatialevo_jax.models.qwen2_5_vl.hf_config import read_config, read_json
from spatialevo_jax.models.qwen2_5_vl.hf_processor import read_processor
from spatialevo_jax.models.qwen2_5_vl.model import Params, abstract_params
from spatialevo_jax.models.qwen2_5_vl.safetensors_io import StoredTensor

CONFIG = "config.json"
PEFT = "adapter_config.json"  # of an adapter that the library PEFT wrote
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PARAMS, COMPANIONS, LAYOUT = "params", "hf", "layout.json"
ADAPTER = "adapter"  # branch of a train state
# Files that hold weights again, in this form or another: not carried along, they would go stale.
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5")
WEIGHT_SUFFIXES += (".msgpack", ".safetensors.index.json", ".bin.index.json")
PART = ".part"  # ends the name of a folder that is being filled
REMOVALS = 50  # times that its removal is tried, five seconds
LARGEST_FILE = 5 * 10**9  # bytes
HEADER_ROOM = 2**20  # of them, for the header
CHUNK = 2**26  # bytes of an array that orbax stores as one piece: what a reader must read at least
# How transformers names tensors in memory, and some programs in files too; as released they are
# shorter.
NATIVE = (("model.visual.", "visual."), ("model.language_model.", "model."))

# Wraps what is looped over, such as a progress bar does.
Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the tensors of a released folder lie in its files."""

    files: dict[str, tuple[str, ...]]  # file -> names as stored there, in the order of their bytes
    index_metadata: dict[str, Any] | None  # None: one file without an index
    dtypes: dict[str, str]  # types of the parameters, by their dotted paths


@dataclasses.dataclass(frozen=True)
class HfFolder:
    """A released folder, checked; its tensors are read when they are indexed."""

    path: Path
    config: ModelConfig
    layout: Layout
    tensors: dict[str, StoredTensor]  # by their released names
    companions: tuple[str, ...]  # files beside the weights
    left_out: tuple[str, ...]  # what is neither: further weights, folders


@dataclasses.dataclass(frozen=True)
class OrbaxFolder:
    """A folder of our form, checked; parameters are read one by one."""

    path: Path
    config: ModelConfig
    layout: Layout
    stored: Path  # the orbax checkpoint
    branch: str  # dotted path of the parameters in it, with a dot at its end unless empty
    adapted: frozenset[str] = frozenset()  # parameters that the checkpoint's adapter changes

    def dtype(self, path: str) -> np.dtype:
        """The type that the parameter at a dotted path has in the released form."""
        return np.dtype(self.layout.dtypes[path])

    def parameter(self, path: str) -> np.ndarray:
        """The parameter at a dotted path, in that type, with its adapter's change.

        Raises:
            ValueError, OSError: its bytes can't be read.
        """
        if path in self.adapted:
            whole = lora.merged(
                self._stored(f"{self.branch}{path}", np.float32), *self._change(path)
            )
            return whole.astype(self.dtype(path))
        return self._stored(f"{self.branch}{path}", self.dtype(path))

    def _change(self, path: str) -> tuple[lora.Factors, np.ndarray]:
        """The factors of an adapted kernel, and what they are scaled by."""
        place = f"{ADAPTER}.factors.{path.removesuffix('.kernel')}"
        a, b = (self._stored(f"{place}.{name}", np.float32) for name in lora.Factors._fields)
        return lora.Factors(a, b), self._stored(f"{ADAPTER}.scale", np.float32)

    def _stored(self, place: str, dtype: Any) -> np.ndarray:
        one = ocp.RestoreArgs(restore_type=np.ndarray, dtype=dtype)
        try:
            return weights.at(_restore(self.stored, weights.nested({place: one})), place)
        except ValueError as error:
            raise ValueError(f"{self.path}: {place}: {error}") from error


def released_name(name: str) -> str:
    """The released name of a tensor that may be stored under its native one."""
    for native, released in NATIVE:
        if name.startswith(native):
            return released + name.removeprefix(native)
    return name


# --- as released ---------------------------------------------------------------------------


def open_hf(path: Path) -> HfFolder:
    """Reads the configuration and all headers, and checks them against each other.

    Raises:
        OSError: a file is missing. ValueError: a file is damaged, the configuration or what is done
            with pixels is not supported, or the tensors are not those that it needs.
    """
    _expect_folder(path)
    config = read_config(path / CONFIG)
    read_processor(path, config.vision)
    files, metadata, stored = _read_files(path)
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        if released_name(name) in tensors:
            raise ValueError(f"{path}: {name}: this tensor is there twice.")
        tensors[released_name(name)] = tensor
    try:
        weights.check(tensors, config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    dtypes = {
        entry.ours: tensors[weights.released_names(entry, config)[0]].dtype.name
        for entry in weights.table(config)
    }
    companions, left_out = [], []
    for entry in sorted(path.iterdir()):
        if entry.name in (*files, INDEX):
            continue
        weight = entry.name.endswith(WEIGHT_SUFFIXES)
        (left_out if weight or not entry.is_file() else companions).append(entry.name)
    layout = Layout(files, metadata, dtypes)
    return HfFolder(path, config, layout, tensors, tuple(companions), tuple(left_out))


def _expect_folder(path: Path) -> None:
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: expected a model folder, found none.")
    if (path / PEFT).is_file() and not (path / CONFIG).is_file():
        raise ValueError(
            f"{path}: expected a whole model, found an adapter ({PEFT}); merge it into its model "
            "first, with PEFT's merge_and_unload."
        )


def _read_files(
    path: Path,
) -> tuple[dict[str, tuple[str, ...]], dict[str, Any] | None, dict[str, StoredTensor]]:
    """The names in each file, the metadata of the index if there is one, and all tensors."""
    single, index = (path / name for name in (SINGLE, INDEX))
    if not index.is_file():
        if not single.is_file():
            raise FileNotFoundError(f"{path}: expected {SINGLE} or {INDEX}, found neither.")
        stored = safetensors_io.read_header(single)
        return {SINGLE: tuple(stored)}, None, stored
    fields = read_json(index)
    places, metadata = fields.get("weight_map"), fields.get("metadata", {})
    if not isinstance(places, dict) or not isinstance(metadata, dict):
        raise ValueError(f"{index}: expected the objects weight_map and metadata.")
    files: dict[str, tuple[str, ...]] = {}
    stored: dict[str, StoredTensor] = {}
    for name, file in places.items():
        if not isinstance(file, str) or not _plain(file, ".safetensors"):
            raise ValueError(f"{index}: {name}: expected a safetensors file, got {file!r:.80}.")
        if file not in files:
            if not (path / file).is_file():
                raise FileNotFoundError(f"{path / file}: no such file; {name} should be in it.")
            held = safetensors_io.read_header(path / file)
            files[file] = tuple(held)
            stray = [other for other in held if places.get(other) != file]
            if stray:
                raise ValueError(f"{path / file}: {stray[0]}: {INDEX} does not place it here.")
            stored |= held
        if name not in files[file]:
            raise ValueError(f"{path / file}: {name}: expected this tensor here, found none.")
    if single.is_file() and SINGLE not in files:
        raise ValueError(f"{path}: expected {SINGLE} or {INDEX} of other files, found both.")
    return files, metadata, stored


def _plain(name: str, suffix: str) -> bool:
    """Whether this names a file in the folder itself, never one elsewhere."""
    return name.endswith(suffix) and Path(name).name == name


def save_hf(source: OrbaxFolder, target: Path, progress: Progress = iter) -> None:
    """Writes the released form. Memory holds one parameter and one of its tensors.

    The files are those that the parameters came from, as long as each has at most 5 GB.

    Raises:
        ValueError: the target exists, or the source is damaged. OSError: no room, no permission.
    """
    entries = weights.table(source.config)
    homes = {
        name: entry for entry in entries for name in weights.released_names(entry, source.config)
    }
    shapes = weights.released_shapes(source.config)

    def home(name: str) -> str:
        # A tied head that was stored holds the embedding again.
        return weights.EMBEDDING if released_name(name) not in homes else released_name(name)

    def form(name: str) -> tuple[np.dtype, tuple[int, ...]]:
        return source.dtype(homes[home(name)].ours), shapes[home(name)]

    def size(name: str) -> int:
        dtype, shape = form(name)
        return math.prod(shape) * dtype.itemsize

    layout = _fitting(source.layout, size)
    with whole_folder(target) as part:
        for companion in sorted((source.path / COMPANIONS).iterdir()):
            shutil.copyfile(companion, part / companion.name)
        slots: dict[str, list[StoredTensor]] = {}
        for file, names in layout.files.items():
            made = safetensors_io.create(part / file, {name: form(name) for name in names})
            for name, slot in made.items():
                slots.setdefault(home(name), []).append(slot)
        for entry in progress(entries):
            value = source.parameter(entry.ours)
            for name, tensor in weights.released_parts(entry, value, source.config):
                for slot in slots[name]:
                    slot.write(tensor)
        if layout.index_metadata is not None:
            total = sum(size(name) for names in layout.files.values() for name in names)
            places = {name: file for file, names in layout.files.items() for name in names}
            index = {
                "metadata": layout.index_metadata | {"total_size": total},
                "weight_map": places,
            }
            text = json.dumps(index, indent=2, sort_keys=True) + "\n"
            (part / INDEX).write_text(text, encoding="utf-8")
        _require_as_written(source)


def _fitting(layout: Layout, size: Callable[[str], int]) -> Layout:
    """The layout itself, or the same tensors over as many files as they need."""
    room = LARGEST_FILE - HEADER_ROOM
    if all(sum(map(size, names)) <= room for names in layout.files.values()):
        return layout
    parts: list[list[str]] = []
    used = room
    for name in (name for names in layout.files.values() for name in names):
        if used + size(name) > room:
            parts.append([])
            used = 0
        parts[-1].append(name)
        used += size(name)
    files = {
        f"model-{number:05d}-of-{len(parts):05d}.safetensors": tuple(names)
        for number, names in enumerate(parts, 1)
    }
    return dataclasses.replace(layout, files=files, index_metadata=layout.index_metadata or {})


# --- ours ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Unread:
    """A parameter that is read when it is its turn to be stored."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class _InTurn(ocp.type_handlers.NumpyHandler):
    """Stores NumPy arrays as orbax does, but one after the other and without a copy of all."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(deepcopy_host_arrays=False)
        self._progress = progress

    async def serialize(
        self, values: Sequence[Any], infos: Sequence[Any], args: Sequence[Any] | None = None
    ) -> Sequence[Any]:
        given = args or [ocp.SaveArgs()] * len(values)
        for value, info, arg in self._progress(list(zip(values, infos, given, strict=True))):
            for stored in await super().serialize([value.read()], [info], [arg]):
                stored.result()
        return []


def save_orbax(source: HfFolder, target: Path, progress: Progress = iter) -> None:
    """Writes our form. Memory holds one parameter, and the chunks of it that are being written.

    Raises:
        ValueError: the target exists. OSError: no room, no permission, or the source went away.
    """
    tensors, config = source.tensors, source.config
    unread = {}
    for entry in weights.table(config):
        unread[entry.ours] = _Unread(
            weights.parameter_shape(entry, tensors, config),
            np.dtype(source.layout.dtypes[entry.ours]),
            functools.partial(weights.parameter, entry, tensors, config),
        )
    with whole_folder(target) as part:
        _write_companions(source, part)
        params = weights.nested(unread)
        chunked = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK), params)
        types = ocp.type_handlers.create_type_handler_registry((_Unread, _InTurn(progress)))
        with ocp.Checkpointer(
            # Weights hardly compress.
            ocp.PyTreeCheckpointHandler(use_compression=False, type_handler_registry=types)
        ) as checkpointer:
            args = ocp.args.PyTreeSave(params, save_args=chunked)
            checkpointer.save((part / PARAMS).absolute(), args=args)
        written = part / PARAMS
        manifest.write(written, sorted(x for x in written.rglob("*") if x.is_file()))


def _write_companions(source: HfFolder | OrbaxFolder, target: Path) -> None:
    """All of our form but the parameters."""
    if isinstance(source, HfFolder):
        files = [source.path / name for name in source.companions]
    else:
        files = sorted((source.path / COMPANIONS).iterdir())
    part = target / f".{LAYOUT}.part"
    part.write_text(json.dumps(dataclasses.asdict(source.layout), indent=1) + "\n")
    part.replace(target / LAYOUT)
    with whole_folder(target / COMPANIONS) as companions:
        for file in files:
            shutil.copyfile(file, companions / file.name)


def open_orbax(path: Path, stored: Path | None = None, branch: str = "") -> OrbaxFolder:
    """Reads all but the parameters' values, and checks that they are those of the configuration.

    Args:
        stored: the orbax checkpoint, where it is not `params/`: one of a training run.
        branch: the branch of its tree that holds the parameters, such as `params`.

    Raises:
        OSError: a file is missing. ValueError: a file is damaged, or a parameter is missing,
            unknown, of another shape or of another type.
    """
    _expect_folder(path)
    for part in (path / COMPANIONS, stored or path / PARAMS):
        if not part.is_dir():
            raise FileNotFoundError(
                f"{path}: expected the folders {PARAMS} and {COMPANIONS}, as from-hf writes them; "
                f"found no {part.name}."
            )
    config = read_config(path / COMPANIONS / CONFIG)
    read_processor(path / COMPANIONS, config.vision)
    layout = _parse_layout(path / LAYOUT, config)
    checkpoint = stored or path / PARAMS
    if (described := checkpoint / "_METADATA").is_file():
        read_json(described)  # orbax takes any JSON for the object that it wrote
    with _checkpointer() as checkpointer:
        metadata = checkpointer.metadata(checkpoint.absolute())
    if metadata.item_metadata is None:
        raise ValueError(f"{checkpoint}: expected a complete orbax checkpoint, found a part.")
    tree = metadata.item_metadata.tree
    found = _by_path(tree[branch] if branch else tree)
    expected = _by_path(abstract_params(config))
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise ValueError(f"{path}: {name}: expected this parameter, found none.")
        if name not in expected:
            raise ValueError(f"{path}: {name}: the model has no such parameter.")
        if found[name].shape != expected[name].shape:
            raise ValueError(
                f"{path}: {name}: expected the shape {expected[name].shape}, "
                f"got {found[name].shape}."
            )
        # Training computes on float32 copies; the way back rounds them to what they came from.
        types = {layout.dtypes[name]} | ({"float32"} if branch else set())
        if np.dtype(found[name].dtype).name not in types:
            raise ValueError(
                f"{path}: {name}: expected the type {layout.dtypes[name]}, got {found[name].dtype}."
            )
    adapter = tree.get(ADAPTER) if branch else None
    changes = _by_path(adapter["factors"]) if adapter else {}
    adapted = frozenset(f"{name.rpartition('.')[0]}.kernel" for name in changes)
    return OrbaxFolder(path, config, layout, checkpoint, f"{branch}." if branch else "", adapted)


def _require_as_written(source: OrbaxFolder) -> None:
    """After reading, whose errors name the parameter. Orbax does not notice other bytes. Those of a
    run's checkpoint were looked at when it was chosen.

    Raises:
        ValueError: the parameters' files are not what they were.
    """
    own = source.path / PARAMS
    if source.stored == own and (fault := manifest.fault(own)):
        raise ValueError(f"{own}: {fault}; convert the released folder again.")


def _by_path(tree: Params) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _parse_layout(path: Path, config: ModelConfig) -> Layout:
    fields = read_json(path)
    files, metadata, dtypes = (fields.get(x) for x in ("files", "index_metadata", "dtypes"))
    if not (
        isinstance(files, dict) and isinstance(metadata, dict | None) and isinstance(dtypes, dict)
    ):
        raise ValueError(f"{path}: expected the objects files, index_metadata and dtypes.")
    known = [dtype.name for dtype in weights.TYPES]
    for entry in weights.table(config):
        if dtypes.get(entry.ours) not in known:
            raise ValueError(
                f"{path}: {entry.ours}: expected the type {', '.join(known)}, "
                f"got {dtypes.get(entry.ours)!r:.40}."
            )
    needed = set(weights.released_shapes(config))
    allowed = needed | ({weights.HEAD} if config.text.tie_word_embeddings else set())
    seen: set[str] = set()
    for file, names in files.items():
        if not _plain(file, ".safetensors") or not isinstance(names, list):
            raise ValueError(f"{path}: expected lists of tensors by file, got {file!r:.80}.")
        for name in names:
            if not isinstance(name, str) or released_name(name) not in allowed - seen:
                raise ValueError(f"{path}: {name}: unknown tensor, or there twice.")
            seen.add(released_name(name))
    if needed - seen:
        raise ValueError(f"{path}: {min(needed - seen)}: expected this tensor, found none.")
    return Layout({file: tuple(names) for file, names in files.items()}, metadata, dtypes)


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())


def _restore(path: Path, like: Any) -> Any:
    """The leaves of a checkpoint for which `like` holds how to restore them."""
    with _checkpointer() as checkpointer:
        args = ocp.args.PyTreeRestore(item=like, restore_args=like, partial_restore=True)
        return checkpointer.restore(path.absolute(), args=args)


# --- both ----------------------------------------------------------------------------------


def open_either(path: Path) -> HfFolder | OrbaxFolder:
    """A model folder of either form.

    Raises:
        ValueError, OSError: see `open_hf` and `open_orbax`.
    """
    return open_hf(path) if (path / CONFIG).is_file() else open_orbax(path)


def load(source: HfFolder | OrbaxFolder, dtype: Any, shardings: Params | None = None) -> Params:
    """All parameters, of one type: NumPy arrays or, with a tree of shardings like the parameters',
    arrays on those devices, of which each process reads its own shards.

    Raises:
        ValueError, OSError: their bytes can't be read.
    """
    if isinstance(source, HfFolder):
        return weights.from_released(
            source.tensors, source.config, shardings=shardings, dtype=dtype
        )

    def one(path: str) -> ocp.RestoreArgs:
        if shardings is None:
            return ocp.RestoreArgs(restore_type=np.ndarray, dtype=dtype)
        return ocp.ArrayRestoreArgs(
            restore_type=jax.Array, dtype=dtype, sharding=weights.at(shardings, path)
        )

    def changed(path: str) -> Any:
        whole = source.parameter(path).astype(dtype)
        if shardings is None:
            return whole
        return jax.make_array_from_callback(
            whole.shape, weights.at(shardings, path), lambda index: whole[index]
        )

    entries = weights.table(source.config)
    plain = [entry.ours for entry in entries if entry.ours not in source.adapted]
    restored = _restore(
        source.stored, weights.nested({f"{source.branch}{path}": one(path) for path in plain})
    )
    _require_as_written(source)
    leaves = {path: weights.at(restored, f"{source.branch}{path}") for path in plain}
    return weights.nested(leaves | {path: changed(path) for path in source.adapted})


def begin_run(source: HfFolder | OrbaxFolder, workdir: Path) -> Path:
    """Puts all but the parameters into the folder of a run, so that its checkpoints can be
    converted; returns where the tokenizer is. What is there already stays.

    Raises:
        ValueError: what is there is of a model of other sizes.
    """
    place = workdir / COMPANIONS
    if not place.is_dir():
        _write_companions(source, workdir)
    elif read_config(place / CONFIG) != source.config:
        raise ValueError(
            f"{source.path}: expected the model that the run in {workdir} began from, got another "
            f"one ({CONFIG} is not that of {place})."
        )
    return place


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, beside the target. It takes the target's place when the block ends, and
    nothing is left of it when the block fails.

    Raises:
        ValueError: the target exists.
    """
    if target.exists() or target.is_symlink():
        raise ValueError(f"{target}: expected a new folder, this one exists.")
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{glob.escape(target.name)}.*{PART}"):
        with contextlib.suppress(FileNotFoundError), _held(left) as held:
            if held:
                _remove(left)  # of a process that was killed
    place = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=PART))
    with _held(place):
        try:
            part = place / target.name
            part.mkdir()
            yield part
            part.rename(target)
        finally:
            _remove(place)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether this process has the folder for itself meanwhile. Not if another one has, or where
    the file system knows no locks.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield bool(lock(handle))
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Threads that write into it may be at it still, when a process is told to stop.

    Raises:
        OSError: they do not stop, or files may not be removed.
    """
    for left in reversed(range(REMOVALS)):
        try:
            return shutil.rmtree(folder)
        except OSError:
            if not left:
                raise
            time.sleep(0.1)
