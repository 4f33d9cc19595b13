"""Parts of a step that need no run."""

import jax
import numpy as np
import pytest

from geometry_jax.types import leaf
from spatialevo_jax.hosts import Share
from spatialevo_jax.rollout.batch import Prompts, Suffixes
from spatialevo_jax.train import steps
from spatialevo_jax.train.step import RoleBatch


def role_of(items: np.ndarray) -> RoleBatch:
    """Every array says which item each of its prompts is."""

    def filled(*shape: int, axis: int = 0) -> jax.Array:
        rows = items.reshape([-1 if place == axis else 1 for place in range(len(shape))])
        return leaf(np.broadcast_to(rows, shape).astype(np.float32))

    p, g, s, t = len(items), 2, 3, 4
    prompts = Prompts(filled(p, s), filled(3, p, s, axis=1), filled(p, s), filled(p, s))
    suffixes = Suffixes(
        filled(p, g, t),
        filled(p, g, t),
        filled(3, p, g, t, axis=1),
        filled(p, g, t),
        filled(p, g, t),
    )
    return RoleBatch(prompts, suffixes, filled(p, g, t), filled(p, g))


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_a_part_of_a_batch_holds_items_that_follow_each_other(blocks: int) -> None:
    """However many hosts they are dealt to, and dealt to these again."""
    order = np.array(Share(0, blocks).order(16))
    part = steps._cut(role_of(order), 1, 8, blocks)
    expected = 8 + np.array(Share(0, blocks).order(8))
    for path, x in jax.tree_util.tree_leaves_with_path(part):
        axis = int("positions" in jax.tree_util.keystr(path))
        flat = np.moveaxis(np.asarray(x), axis, 0).reshape(8, -1)
        np.testing.assert_array_equal(flat, np.broadcast_to(expected[:, None], flat.shape))


def test_metrics_of_several_updates_are_means_and_losses_add_up() -> None:
    asked = {"loss/total": 1.0, "loss/questioner": 1.0, "optimizer/skipped": 1.0, "norm": 2.0}
    solved = [
        {"loss/total": x, "loss/solver": x, "optimizer/skipped": 0.0, "norm": 4.0} for x in (3, 5)
    ]
    assert steps._joined([asked, *solved]) == {
        "loss/total": 5.0,
        "loss/questioner": 1.0,
        "loss/solver": 4.0,
        "optimizer/skipped": 1.0,
        "norm": pytest.approx(10 / 3),
    }
    assert steps._joined([asked]) == asked
