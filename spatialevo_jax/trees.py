"""Names of what is in a tree of arrays."""

from typing import Any

import jax


def dotted(path: tuple[Any, ...]) -> str:
    """A path of `jax.tree_util` as rules and messages write it: `text.blocks.q.kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")
