"""A key for caches of what belongs to scene records: arrays are not hashable, objects are."""

from geometry_jax.scene_io import SceneRecord


class Same:
    """Equal only for the very same records; keeps them alive while it is a key."""

    def __init__(self, *records: SceneRecord) -> None:
        self.records = records

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.records)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Same) or len(other.records) != len(self.records):
            return False
        return all(a is b for a, b in zip(self.records, other.records, strict=True))
