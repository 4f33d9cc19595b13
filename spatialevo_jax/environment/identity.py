"""Which scene records are the same: as objects, for caches, and by what they say."""

import dataclasses
import functools
import hashlib

import numpy as np

from geometry_jax.scene_io import SceneRecord

NOT_COMPARED = ("points", "point_valid", "box_gap")  # of scenes; gaps follow from the rest


class Same:
    """A key for caches of what belongs to records, whose arrays are not hashable: equal only for
    the very same ones. Keeps them alive while it is a key.
    """

    def __init__(self, *records: SceneRecord) -> None:
        self.records = records

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.records)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Same) or len(other.records) != len(self.records):
            return False
        return all(a is b for a, b in zip(self.records, other.records, strict=True))


def scene_hash(record: SceneRecord) -> str:
    """A digest of all that answers rest on: objects, boxes, poses, what is seen, names. Not of
    pictures, and not of instance points, which neither training nor question-answer sets use.
    """
    return _scene_hash(Same(record))


@functools.lru_cache(maxsize=1024)
def _scene_hash(key: Same) -> str:
    (record,) = key.records
    digest = hashlib.blake2b(digest_size=12)
    for field in dataclasses.fields(record.scene):
        if field.name not in NOT_COMPARED:
            array = np.ascontiguousarray(getattr(record.scene, field.name))
            digest.update(f"{field.name}{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
    names = (record.scene_id, record.labels, record.object_ids, record.frame_ids)
    digest.update(repr((*names, [path.name for path in record.image_paths])).encode())
    return digest.hexdigest()
