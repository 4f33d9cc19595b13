"""Where every number of a run lies on a mesh: one short table of rules over parameter paths.

    mesh = make_mesh(data=1, fsdp=8, tensor=2)
    with jax.set_mesh(mesh):
        policy, params = build(config, seed, param_shardings(config, mesh))
        state = jax.device_put(state, shardings(state, config, mesh))
        batch = jax.device_put(batch, batch_shardings(batch, mesh))

`tensor` splits the decoder as Megatron does (arXiv 1909.08053): columns of q, k, v, gate and up,
rows of o and down, so that a layer needs two sums over devices. `fsdp` splits the other side of
every matrix, and batches go over `data` and `fsdp` together. The vision tower is not split by
`tensor`: images are many and its matrices small. The axis of stacked layers is never split.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from spatialevo_jax.mesh import AXES, BATCH, FSDP, TENSOR
from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig
from spatialevo_jax.models.qwen2_5_vl.model import Params, abstract_params
from spatialevo_jax.rollout.batch import map_rows
from spatialevo_jax.trees import dotted

Axis = str | None


@dataclasses.dataclass(frozen=True)
class Rule:
    """How parameters whose path ends in `pattern` are split."""

    pattern: str  # regular expression
    axes: tuple[Axis, ...]  # of the dimensions
    heads: Literal["", "num_heads", "num_kv_heads"] = ""  # what `tensor` must not cut through
    whole_when_few: bool = False  # fewer heads than devices along `tensor`: each holds all of them


_COLUMNS, _ROWS = (None, FSDP, TENSOR), (None, TENSOR, FSDP)  # of stacked layers

RULES = (  # the first that fits
    Rule(r"(text|vision)\..*\.[ab]", ()),  # an adapter's factors are small
    Rule(r"norm\d?\.norm\.scale", ()),
    Rule(r"text\.embedding\.embedding", (TENSOR, FSDP)),
    Rule(r"text\.head\.kernel", (FSDP, TENSOR)),
    Rule(r"text\.blocks\.q\.kernel", _COLUMNS, "num_heads"),
    Rule(r"text\.blocks\.q\.bias", (None, TENSOR), "num_heads"),
    Rule(r"text\.blocks\.[kv]\.kernel", _COLUMNS, "num_kv_heads", whole_when_few=True),
    Rule(r"text\.blocks\.[kv]\.bias", (None, TENSOR), "num_kv_heads", whole_when_few=True),
    Rule(r"text\.blocks\.o\.kernel", _ROWS, "num_heads"),
    Rule(r"text\.blocks\.mlp\.(gate|up)\.kernel", _COLUMNS),
    Rule(r"text\.blocks\.mlp\.down\.kernel", _ROWS),
    Rule(r"vision\..*\.bias", ()),
    Rule(r"vision\.patch_embed\.kernel", (None, FSDP)),
    Rule(r"vision\.blocks\.(qkv|proj|mlp\.gate|mlp\.up)\.kernel", (None, FSDP)),
    Rule(r"vision\.blocks\.mlp\.down\.kernel", (None, None, FSDP)),
    Rule(r"vision\.merger\.(up|down)\.kernel", (FSDP,)),
)


def make_mesh(
    *, data: int = 1, fsdp: int = 0, tensor: int = 1, devices: Sequence[Any] | None = None
) -> Mesh:
    """A mesh of all devices, or of the given ones; `fsdp` 0 takes what the other axes leave.

    Raises:
        ValueError: the sizes do not make up the devices.
    """
    # The devices of a process stay together: it feeds the rows of a batch that lie on them.
    given = jax.devices() if devices is None else devices
    devices = sorted(given, key=lambda one: (one.process_index, one.id))
    sizes = (data, fsdp or max(len(devices) // max(data * tensor, 1), 1), tensor)
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        asked = " x ".join(f"{name} {size}" for name, size in zip(AXES, sizes, strict=True))
        raise ValueError(f"mesh: expected {asked} to make up {len(devices)} devices.")
    kinds = (AxisType.Auto,) * 3
    if devices[0].process_index == devices[-1].process_index:
        return jax.make_mesh(sizes, AXES, axis_types=kinds, devices=devices)
    return Mesh(np.asarray(devices).reshape(sizes), AXES, axis_types=kinds)


def param_shardings(config: ModelConfig, mesh: Mesh) -> Params:
    """The sharding of every parameter, in a tree like the parameters'. Raises: see `shardings`."""
    return shardings(abstract_params(config), config, mesh)


def shardings(tree: Any, config: ModelConfig, mesh: Mesh) -> Any:
    """Shardings of anything that holds parameters or what is kept of each of them: the parameters,
    an optimizer's state, a train state. What belongs to no parameter is on every device.

    Raises:
        ValueError: a dimension does not divide over its axis, or a parameter has no rule.
    """

    def place(path: Any, leaf: Any) -> NamedSharding:
        name = dotted(path)
        return NamedSharding(mesh, spec(name, leaf.shape, config, dict(mesh.shape)))

    return jax.tree_util.tree_map_with_path(place, tree)


def spec(
    name: str, shape: tuple[int, ...], config: ModelConfig, sizes: dict[str, int]
) -> PartitionSpec:
    """How the array at a dotted path is split over axes of these sizes. Raises: see `shardings`."""
    rule = next((one for one in RULES if re.search(rf"(^|\.){one.pattern}$", name)), None)
    if rule is None:
        if re.search(r"(^|\.)(text|vision)\.", name):
            raise ValueError(f"{name}: expected a rule in spatialevo_jax.sharding, found none.")
        return PartitionSpec()
    if len(rule.axes) > len(shape):
        raise ValueError(f"{name}: expected {len(rule.axes)} dimensions, got the shape {shape}.")
    axes = list(rule.axes)
    for dimension, axis in enumerate(rule.axes):
        if axis is None:
            continue
        size, devices = shape[dimension], sizes[axis]
        counted = f"dimension {dimension} of {shape}"
        if rule.heads and axis == TENSOR:
            size = getattr(config.text, rule.heads)
            counted = f"the {size} {rule.heads.removeprefix('num_')} in {counted}"
            if rule.whole_when_few and size < devices:
                axes[dimension] = None
                continue
        if size % devices:
            raise ValueError(f"{name}: expected {counted} to divide over {axis}={devices}.")
    return PartitionSpec(*axes)


def whole_weights(params: Params, config: ModelConfig) -> Params:
    """The decoder's weights as a loop that decodes reads them at every token: in the type that the
    policy computes in, and on a mesh gathered along `fsdp`, once and not for every token.
    """
    devices = jax.sharding.get_abstract_mesh()

    def place(path: Any, leaf: jax.Array) -> jax.Array:
        name = dotted(path)
        if not name.endswith("scale"):  # norms compute in float32
            leaf = leaf.astype(config.compute_dtype)
        if devices.empty:
            return leaf
        split = spec(name, leaf.shape, config, dict(devices.shape))
        kept = PartitionSpec(*(axis if axis == TENSOR else None for axis in split))
        return jax.lax.with_sharding_constraint(leaf, kept)

    decoder = {"text": params["text"]}
    return {**params, **jax.tree_util.tree_map_with_path(place, decoder)}


def init_sharded(init: Callable[..., Any], config: ModelConfig, mesh: Mesh, *args: Any) -> Any:
    """What `init(*args)` makes, laid out as `shardings` says, and never anywhere else. The arrays
    among `args` are given away.
    """
    layout = shardings(jax.eval_shape(init, *args), config, mesh)
    with jax.set_mesh(mesh):
        return jax.jit(init, out_shardings=layout, donate_argnums=range(len(args)))(*args)


def batch_shardings(batch: Any, mesh: Mesh, blocks: int = 1) -> Any:
    """Shardings of a batch whose rows go over `data` and `fsdp`; of packed images the windows,
    images and visual tokens.

    `batch` is one of `blocks` equal parts of the whole, see `spatialevo_jax.hosts`.

    Raises:
        ValueError: the rows do not divide.
    """
    devices = math.prod(mesh.shape[axis] for axis in BATCH)

    def place(name: str, leaf: Any, axis: int) -> NamedSharding:
        if leaf.ndim == 0:
            return NamedSharding(mesh, PartitionSpec())
        size = leaf.shape[axis] * blocks
        if size % devices:
            raise ValueError(
                f"{name}: expected {size} rows to divide over {' x '.join(BATCH)}={devices}."
            )
        return NamedSharding(mesh, PartitionSpec(*(None,) * axis, BATCH))

    return map_rows(place, batch)
