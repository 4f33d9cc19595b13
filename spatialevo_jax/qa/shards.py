"""Rows on disk: one shard for each block of scenes, in JSON lines and parquet, whole or not there.

jsonl/train-00003.jsonl     parquet/train-00003.parquet
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from spatialevo_jax.files import whole_file
from spatialevo_jax.qa.rows import FIELDS, Row

_ENCODER = json.JSONEncoder(check_circular=False, ensure_ascii=False)


def shard_path(folder: Path, form: str, split: str, block: int) -> Path:
    return folder / form / f"{split}-{block:05d}.{form}"


def list_shards(folder: Path, form: str) -> list[Path]:
    """The complete shards of a format, in order."""
    return sorted(path for path in (folder / form).glob(f"*.{form}") if path.name[0] != ".")


def write_shard(
    folder: Path,
    split: str,
    block: int,
    rows: Sequence[Row],
    forms: Sequence[str],
    images_root: Path | None = None,
) -> None:
    """Writes a block in every format; JSON lines last, which say that the block is done.

    Args:
        images_root: where images are read from that are put into the parquet file; None for none.

    Raises:
        OSError: a file can't be written. ModuleNotFoundError: pyarrow is not installed.
    """
    for form in sorted(forms, reverse=True):
        with whole_file(shard_path(folder, form, split, block)) as part:
            if form == "parquet":
                _write_parquet(part, rows, images_root)
            else:
                with part.open("w", encoding="utf-8") as file:
                    file.writelines(_ENCODER.encode(row) + "\n" for row in rows)


def read_shard(path: Path) -> list[Row]:
    """The rows of a shard, without embedded images.

    Raises:
        ValueError: a line is no row.
    """
    if path.suffix == ".parquet":
        columns = [name for name in FIELDS if name != "pictures"]
        return parquet().read_table(path, columns=columns).to_pylist()
    return list(read_lines(path))


def read_rows(path: Path) -> list[Row]:
    """The rows of anybody's file: parquet by its name, else JSON lines.

    Raises:
        ValueError: it can't be read as such.
    """
    if path.suffix == ".parquet":
        return parquet().read_table(path).to_pylist()
    return list(read_lines(path))


def read_lines(path: Path) -> Iterator[Row]:
    """JSON lines, one object each; empty lines are none.

    Raises:
        ValueError: a line is not a JSON object; the message says which.
    """
    with path.open("rb") as file:  # what is no text is a bad line too
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: expected JSON ({error}).") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: expected an object, got {row!r:.40}.")
            yield row


# --- parquet ---------------------------------------------------------------------------------


def parquet() -> ModuleType:
    """pyarrow's parquet module.

    Raises:
        ModuleNotFoundError: it is not installed; the message says what to install.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "parquet needs pyarrow: pip install 'spatialevo-jax[data]', or leave the format out."
        ) from error
    return pyarrow.parquet


def schema(pictures: bool) -> Any:
    """The columns; with pictures in the form that `datasets` shows as images."""
    parquet()
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    evidence = pa.struct(
        [
            ("objects", pa.list_(pa.int64())),
            ("points_world", pa.list_(pa.list_(pa.float64()))),
            ("numbers", pa.list_(pa.float64())),
        ]
    )
    kinds = dict.fromkeys(FIELDS, text) | {
        "images": texts,
        "options": texts,
        "correct": pa.int32(),
        "valid": pa.bool_(),
        "margin": pa.float64(),
        "labels": texts,
        "roles": pa.list_(pa.int32()),
        "evidence": evidence,
    }
    fields = [pa.field(name, kind) for name, kind in kinds.items()]
    if not pictures:
        return pa.schema(fields)
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    shown = {"pictures": {"feature": {"_type": "Image"}, "_type": "List"}}
    known = {"info": {"features": {**features(), **shown}}}
    return pa.schema(
        [*fields, pa.field("pictures", pa.list_(picture))],
        metadata={"huggingface": json.dumps(known)},
    )


def features() -> dict[str, Any]:
    """The columns as `datasets.Features.from_dict` takes them. From JSON lines it guesses wrong: a
    column that is empty in the first shard, such as options that few rows have, has no type there.
    """

    def value(kind: str) -> dict[str, Any]:
        return {"dtype": kind, "_type": "Value"}

    def many(feature: dict[str, Any]) -> dict[str, Any]:
        return {"feature": feature, "_type": "List"}

    return dict.fromkeys(FIELDS, value("string")) | {
        "images": many(value("string")),
        "options": many(value("string")),
        "correct": value("int32"),
        "valid": value("bool"),
        "margin": value("float64"),
        "labels": many(value("string")),
        "roles": many(value("int32")),
        "evidence": {
            "objects": many(value("int64")),
            "points_world": many(many(value("float64"))),
            "numbers": many(value("float64")),
        },
    }


def _write_parquet(path: Path, rows: Sequence[Row], images_root: Path | None) -> None:
    import pyarrow as pa

    writer = parquet()
    if images_root is not None:
        rows = [
            {
                **row,
                "pictures": [
                    {"bytes": (images_root / name).read_bytes(), "path": name}
                    for name in row["images"]
                ],
            }
            for row in rows
        ]
    table = pa.Table.from_pylist(list(rows), schema=schema(images_root is not None))
    writer.write_table(table, path, compression="zstd")
