"""Low-rank adapters (LoRA, arXiv 2106.09685): a small tree that is trained in place of the
parameters.

An adapted linear map computes x W + b + (alpha / rank) (x A) B. Training runs `attach`ed, which
needs neither a second copy of W nor its gradient; an export is `merge`d: W + (alpha / rank) A B.
"""

import dataclasses
import fnmatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spatialevo_jax.config import LoraConfig
from spatialevo_jax.trees import dotted


class Factors(NamedTuple):
    """Of one linear map, stacked over layers as its kernel (L, inputs, outputs) is."""

    a: Any  # (L, inputs, rank) f32
    b: Any  # (L, rank, outputs) f32, zero at first: a fresh adapter changes nothing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Adapter:
    factors: Any  # nested like the parameters, `Factors` in the place of each adapted linear map
    scale: jax.Array  # () f32, alpha / rank


def init(params: Any, config: LoraConfig, key: jax.Array) -> Adapter:
    """A fresh adapter of parameters, or of their shapes. `a` is uniform with the bound
    1 / sqrt(inputs), as in PEFT.

    Raises:
        ValueError: see `adapted`.
    """
    factors: dict = {}
    for number, (path, kernel) in enumerate(adapted(params, config).items()):
        *stack, inputs, outputs = kernel.shape
        bound = inputs**-0.5
        own = jax.random.fold_in(key, number)
        shape = (*stack, inputs, config.rank)
        a = jax.random.uniform(own, shape, minval=-bound, maxval=bound)
        _put(factors, path, Factors(a, jnp.zeros((*stack, config.rank, outputs))))
    return Adapter(factors, jnp.float32(config.alpha / config.rank))


def attach(params: Any, adapter: Adapter) -> Any:
    """The parameters with the adapter beside its kernels, as every function of the model takes
    them.
    """

    def join(node: Any, factors: Any) -> Any:
        if isinstance(factors, Factors):
            return {**node, "a": factors.a, "b": factors.b * adapter.scale}
        return {**node, **{name: join(node[name], below) for name, below in factors.items()}}

    return join(params, adapter.factors)


def merge(params: Any, adapter: Adapter) -> Any:
    """Parameters that compute by themselves what the attached ones compute."""

    def join(node: Any, factors: Any) -> Any:
        if isinstance(factors, Factors):
            return {**node, "kernel": merged(node["kernel"], factors, adapter.scale)}
        return {**node, **{name: join(node[name], below) for name, below in factors.items()}}

    return join(params, adapter.factors)


def merged(kernel: Any, factors: Factors, scale: Any) -> Any:
    """One kernel with its change. NumPy in, NumPy out, else on the device; in float32."""
    if isinstance(kernel, np.ndarray):
        change = np.asarray(scale) * np.matmul(np.asarray(factors.a), np.asarray(factors.b))
    else:
        change = scale * jnp.matmul(factors.a, factors.b, precision=jax.lax.Precision.HIGHEST)
    return (kernel + change).astype(kernel.dtype)


def adapted(params: Any, config: LoraConfig) -> dict[str, Any]:
    """The kernels of the linear maps that an adapter changes, by the dotted paths of the maps.

    Raises:
        ValueError: a pattern fits no linear map, the message lists what there is; or no map that is
            changed has so high a rank.
    """
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = dotted(path)
        if name.endswith(".kernel"):
            found[name.removesuffix(".kernel")] = leaf
    for pattern in config.targets:
        if not fnmatch.filter(found, pattern):
            raise ValueError(
                f"lora.targets: expected patterns of {', '.join(found)}; {pattern!r} fits none."
            )
    chosen = {path for pattern in config.targets for path in fnmatch.filter(found, pattern)}
    changed = {path: kernel for path, kernel in found.items() if path in chosen}
    highest = max(min(kernel.shape[-2:]) for kernel in changed.values())
    if config.rank > highest:
        raise ValueError(
            f"lora.rank: expected at most {highest}, the highest rank of any map that is changed, "
            f"got {config.rank}."
        )
    return changed


def _put(tree: dict, path: str, value: Any) -> None:
    *folders, name = path.split(".")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[name] = value
