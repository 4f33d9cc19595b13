"""The axes of a device mesh, and what the model says about its activations on one.

Training on a mesh runs under `jax.set_mesh(mesh)`; without a mesh nothing here does anything.
`spatialevo_jax.sharding` makes meshes and places parameters on them.
"""

import jax
from jax.sharding import PartitionSpec

DATA, FSDP, TENSOR = "data", "fsdp", "tensor"
AXES = (DATA, FSDP, TENSOR)
BATCH = (DATA, FSDP)  # a batch is split over both: fsdp shards the parameters of data parallelism


def axis_size(axes: str | tuple[str, ...]) -> int:
    """Devices along one or several axes of the mesh in use; 1 without a mesh."""
    sizes = jax.sharding.get_abstract_mesh().shape
    names = (axes,) if isinstance(axes, str) else axes
    total = 1
    for name in names:
        total *= sizes.get(name, 1)
    return total


def fitting(shape: tuple[int, ...], *axes: str | tuple[str, ...] | None) -> PartitionSpec:
    """The spec that splits each dimension over its axes of the mesh in use, where it divides; a
    dimension that does not divide, such as the images of a step, stays whole.
    """
    split = zip(shape, axes, strict=False)
    kept = [one if one and size % axis_size(one) == 0 else None for size, one in split]
    return PartitionSpec(*kept)


def constrain(x: jax.Array, *axes: str | tuple[str, ...] | None) -> jax.Array:
    """Asks for an activation's layout; dimensions beyond `axes` stay whole."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, fitting(x.shape, *axes))


def platform() -> str:
    """What the computation is traced for: the devices of the mesh in use, else the default ones.

    A mesh may describe devices that are not here, to compile for them.
    """
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    return jax.default_backend() if device is None else device.platform
