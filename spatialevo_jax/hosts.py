"""What the processes of a run share: which rows each of them feeds, and what they tell each other.

Every process runs the same program on its own devices (`jax.distributed`). Arrays are global: each
process makes the rows of a batch that lie on its devices, and knows of the others' what it is told
by `gather`. Alone, a process feeds all rows and hears itself.
"""

import contextlib
import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from spatialevo_jax.mesh import BATCH
from spatialevo_jax.sharding import batch_shardings

GOODBYE = b"."
CONNECTING = 120.0  # seconds that processes wait for each other's connection


@dataclasses.dataclass(frozen=True)
class Share:
    """A batch is cut into equal blocks of rows; this process feeds one of them.

    Processes whose devices only differ along `tensor` feed the same block.
    """

    block: int
    blocks: int

    def dealt(self, count: int) -> list[int]:
        """Items of an ordered list of `count` that this process takes: in turn, so that costs that
        grow along the list are shared evenly. The first rows of a batch are those of block 0.

        Raises:
            ValueError: they do not divide.
        """
        if count % self.blocks:
            raise ValueError(f"expected rows that {self.blocks} hosts can share, got {count}.")
        return list(range(self.block, count, self.blocks))

    def order(self, count: int) -> list[int]:
        """The dealt items of all processes, in the order of their rows in a batch."""
        return [item for block in range(self.blocks) for item in range(block, count, self.blocks)]


def share(mesh: Mesh) -> Share:
    """The rows of a batch on the mesh that lie on this process's devices.

    Raises:
        ValueError: they are no block of their own, as on meshes of `sharding.make_mesh`.
    """
    sharding = NamedSharding(mesh, PartitionSpec(BATCH))
    total = sharding.mesh.shape[BATCH[0]] * sharding.mesh.shape[BATCH[1]]
    indices = sharding.addressable_devices_indices_map((total,)).values()
    own = sorted({(index or (slice(None),))[0].start or 0 for index in indices})
    size = len(own)
    if own != list(range(own[0], own[0] + size)) or own[0] % size or total % size:
        raise ValueError(
            f"mesh: expected the devices of a process side by side along {' x '.join(BATCH)}, "
            f"got the rows {own} of {total}."
        )
    return Share(own[0] // size, total // size)


def put(batch: Any, mesh: Mesh, blocks: int) -> Any:
    """The global arrays of a batch of which every process gives its block of rows.

    Raises:
        ValueError: rows that do not divide over the devices.
    """

    def place(local: Any, sharding: NamedSharding) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, np.asarray(local))

    return jax.tree.map(place, batch, batch_shardings(batch, mesh, blocks))


def rows_of(array: jax.Array) -> np.ndarray:
    """This process's block of rows of a global array that is split by rows over the devices of a
    batch, each once.
    """
    if array.is_fully_addressable:
        return np.asarray(array)
    shards = {}
    for shard in array.addressable_shards:
        start = (shard.index[0].start or 0) if shard.index else 0
        shards.setdefault(start, shard)
    return np.concatenate([np.asarray(shards[start].data) for start in sorted(shards)])


def gather(own: Mapping[int, Any], count: int) -> list[Any]:
    """Items 0 to `count` of all processes, of which each gives its own: values that JSON can hold.

    Every process must call it, in the same order of calls.
    """
    known = dict(own)
    if jax.process_count() > 1:
        text = json.dumps(list(own.items())).encode()
        sizes = np.asarray(multihost_utils.process_allgather(np.array([len(text)], np.int32)))
        padded = np.zeros(int(sizes.max()), np.uint8)
        padded[: len(text)] = np.frombuffer(text, np.uint8)
        for row, size in zip(
            np.asarray(multihost_utils.process_allgather(padded)), sizes.ravel(), strict=True
        ):
            known |= dict(json.loads(row[:size].tobytes()))
    missing = [item for item in range(count) if item not in known]
    if missing:
        raise ValueError(f"expected {count} items of all hosts, got none for {missing}.")
    return [known[item] for item in range(count)]


def local(values: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    """Those of this process."""
    return [values[row] for row in rows]


def wait_for_all(what: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def watch_peers(lost: Callable[[], None], address: str | None = None) -> Callable[[], None]:
    """Calls `lost` in a thread as soon as another process is gone without having said goodbye, and
    returns what says it. Whatever a process waits for then, be it a sum over devices or a
    checkpoint, may never come.

    Process 0 holds a connection to every other one: where it ends, one of the two is gone. Those
    that then end too are noticed by the others. `address` is the host of process 0, if it is known.

    Raises:
        OSError: the processes do not reach each other.
    """
    if jax.process_count() == 1:
        return lambda: None
    peers: list[socket.socket] = []
    if jax.process_index() == 0:
        with socket.create_server(("", 0)) as server:
            gather({0: [address or socket.gethostname(), server.getsockname()[1]]}, 1)
            server.settimeout(CONNECTING)
            peers += [server.accept()[0] for _ in range(jax.process_count() - 1)]
    else:
        ((host, port),) = gather({}, 1)
        peers.append(socket.create_connection((host, port), CONNECTING))
    left = threading.Event()

    def leave() -> None:
        left.set()
        for peer in peers:
            with contextlib.suppress(OSError):  # it has left before
                peer.sendall(GOODBYE)

    for peer in peers:
        threading.Thread(target=wait_for_end, args=(peer, left, lost), daemon=True).start()
    return leave


def wait_for_end(peer: socket.socket, left: threading.Event, lost: Callable[[], None]) -> None:
    """Waits until the connection to a process ends, and calls `lost` if it ended without a goodbye
    of either side.
    """
    peer.settimeout(None)
    try:
        said = peer.recv(len(GOODBYE))
    except OSError:  # reset by the one that was killed
        said = b""
    if said != GOODBYE and not left.is_set():
        lost()


def join(
    *,
    distributed: bool,
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
) -> None:
    """Joins the other processes of a run, before anything else asks for a device. `distributed`
    takes what is not given from SLURM, TPU or Kubernetes; without either the process is alone.

    Raises:
        ValueError: a part of the three is missing. RuntimeError: the others don't come.
    """
    given = (coordinator_address, num_processes, process_id)
    if not distributed and all(one is None for one in given):
        return
    if not distributed and any(one is None for one in given):
        raise ValueError(
            "expected --coordinator_address, --num_processes and --process_id together, or "
            "--distributed where the environment says them."
        )
    if coordinator_address is not None and not coordinator_address.rpartition(":")[2].isdecimal():
        raise ValueError(f"--coordinator_address: expected HOST:PORT, got {coordinator_address!r}.")
    jax.distributed.initialize(coordinator_address, num_processes, process_id)
