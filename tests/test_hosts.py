"""Who feeds which rows. Several real processes are in tests/launch/test_meshes.py."""

import socket
import threading

import jax
import numpy as np
import pytest

from spatialevo_jax import hosts
from spatialevo_jax.models.qwen2_5_vl import images
from spatialevo_jax.models.qwen2_5_vl.images import VisionShape
from spatialevo_jax.sharding import make_mesh

from .models.qwen2_5_vl.checkpoints import SMALL


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_shares_are_disjoint_and_make_up_the_batch(blocks: int) -> None:
    shares = [hosts.Share(block, blocks) for block in range(blocks)]
    dealt = [item for share in shares for item in share.dealt(6)]
    assert dealt == shares[0].order(6) and sorted(dealt) == list(range(6))


def test_costs_that_grow_along_the_list_are_shared_evenly() -> None:
    costs = np.repeat([1, 2, 16], 4)
    own = [costs[hosts.Share(block, 4).dealt(12)].sum() for block in range(4)]
    assert len(set(own)) == 1


def test_rows_that_hosts_cannot_share_are_refused() -> None:
    with pytest.raises(ValueError, match="rows that 4 hosts can share, got 6"):
        hosts.Share(0, 4).dealt(6)


def test_alone_a_process_feeds_all_and_hears_itself() -> None:
    mesh = make_mesh(devices=jax.devices()[:1])
    assert hosts.share(mesh) == hosts.Share(0, 1)
    assert hosts.gather({1: "b", 0: "a"}, 2) == ["a", "b"]
    with pytest.raises(ValueError, match=r"expected 3 items of all hosts, got none for \[1\]"):
        hosts.gather({0: "a", 2: "c"}, 3)
    x = np.arange(6).reshape(3, 2)
    placed = hosts.put(x, mesh, 1)
    np.testing.assert_array_equal(hosts.rows_of(placed), x)


def test_to_join_others_all_three_are_needed() -> None:
    hosts.join(distributed=False, coordinator_address=None, num_processes=None, process_id=None)
    with pytest.raises(ValueError, match="num_processes and --process_id together"):
        hosts.join(distributed=False, coordinator_address="a:1", num_processes=2, process_id=None)


def test_an_address_without_a_port_is_refused() -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT, got 'foo'"):
        hosts.join(distributed=False, coordinator_address="foo", num_processes=1, process_id=0)


def test_blocks_of_images_joined_are_the_images_of_the_whole() -> None:
    """What each block's slots point at in the joined arrays is what they point at in their own."""
    rng = np.random.default_rng(0)
    sizes = [(56, 56), (56, 112)], [(84, 56), (28, 28)]
    patches = [
        [
            images.preprocess(rng.integers(0, 256, (*size, 3), np.uint8), SMALL.vision)
            for size in part
        ]
        for part in sizes
    ]
    needed = [images.needed_shape([one.grid for one in part], SMALL.vision) for part in patches]
    shape = images.shared_shape(needed, 2)
    assert all(size % 2 == 0 for size in (shape.windows, shape.images, shape.tokens))
    own = [images.pack_images(part, SMALL.vision, shape) for part in patches]
    moved = [images.as_block(one, block) for block, one in enumerate(own)]
    joined = jax.tree.map(lambda *x: np.concatenate(x), *moved)
    flat = joined.patches.reshape(-1, joined.patches.shape[-1])
    for block, one in enumerate(own):
        alone = np.asarray(one.patches).reshape(-1, flat.shape[-1])
        for name in ("token_slots", "image_slots"):
            rows = len(getattr(one, name))
            there = getattr(joined, name)[block * rows : (block + 1) * rows]
            np.testing.assert_array_equal(flat[there], alone[getattr(one, name)])
        rows = one.return_slots.size
        there = joined.image_slots.reshape(-1)[joined.return_slots[block * rows :][:rows]]
        here = np.asarray(one.image_slots).reshape(-1)[np.asarray(one.return_slots)]
        np.testing.assert_array_equal(there - block * rows, here)


def test_a_shared_shape_fits_every_part() -> None:
    parts = [VisionShape(3, 1, 16, 5), VisionShape(2, 4, 9, 8)]
    assert images.shared_shape(parts, 4) == VisionShape(4, 4, 16, 8)
    assert images.shared_shape(parts[:1], 1) == parts[0]


@pytest.mark.parametrize(
    ("goodbye", "leaving", "noticed"),
    [(False, False, True), (True, False, False), (False, True, False)],
    ids=["killed", "said goodbye", "after our own goodbye"],
)
def test_a_peer_is_lost_when_its_connection_ends_without_a_goodbye(
    goodbye: bool, leaving: bool, noticed: bool
) -> None:
    own, other = socket.socketpair()
    left, lost = threading.Event(), threading.Event()
    if goodbye:
        other.sendall(hosts.GOODBYE)
    if leaving:
        left.set()
    other.close()
    hosts.wait_for_end(own, left, lost.set)
    own.close()
    assert lost.is_set() == noticed
