"""A ray caster for rooms of boxes and ellipsoids: colour, depth and instances, exact visibility.
Vectorised in JAX.

A pixel's ray has z component 1 in the camera, so its parameter *is* the z-depth. R rays, P parts, N
objects, F frames.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

AMBIENT, DIFFUSE = 0.55, 0.45
CANVAS = 2  # the unbounded canvas is approximated by one this many times as wide as the image
RING_STRIDE = 2  # pixels between rays outside the image
NEAR = 1e-3  # metres


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Parts:
    """Parts of all objects of a room, padded."""

    center: jax.Array  # (P, 3) f32, world metres
    half_extent: jax.Array  # (P, 3) f32, metres
    yaw: jax.Array  # (P,) f32, radians about +z
    ellipsoid: jax.Array  # (P,) bool, else a box
    color: jax.Array  # (P, 3) f32
    owner: jax.Array  # (P,) i32, object index, -1 for padding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shell:
    """The room itself: a box seen from inside."""

    size: jax.Array  # (3,) f32, metres; the floor's corner is the origin
    wall_color: jax.Array  # (4, 3) f32: x = 0, x = size, y = 0, y = size
    floor_color: jax.Array  # (2, 3) f32, of the two kinds of tiles
    ceiling_color: jax.Array  # (3,) f32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rendering:
    color: jax.Array  # (F, H, W, 3) f32, 0 to 1
    depth: jax.Array  # (F, H, W) f32, metres along z
    instance: jax.Array  # (F, H, W) i32, object index, -1 for the room
    seen: jax.Array  # (F, N) f32, pixels on which the object is seen
    inside: jax.Array  # (F, N) f32, pixels of the image that the object would cover alone
    alone: jax.Array  # (F, N) f32, pixels it would cover alone on the canvas


def _ray_grid(width: int, height: int, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, 3) directions in the camera, image rays first in raster order, and (R,) pixels that each
    stands for.
    """
    margin_x, margin_y = (CANVAS - 1) * width // 2, (CANVAS - 1) * height // 2
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    ring_u, ring_v = np.meshgrid(
        np.arange(-margin_x, width + margin_x, RING_STRIDE),
        np.arange(-margin_y, height + margin_y, RING_STRIDE),
    )
    outside = (ring_u < 0) | (ring_u >= width) | (ring_v < 0) | (ring_v >= height)
    offset = (RING_STRIDE - 1) / 2
    pixel_u = np.concatenate([u.ravel(), ring_u[outside] + offset])
    pixel_v = np.concatenate([v.ravel(), ring_v[outside] + offset])
    weight = np.ones(len(pixel_u), np.float32)
    weight[u.size :] = RING_STRIDE**2
    # A ray goes through the middle of its pixel.
    x = (pixel_u + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (pixel_v + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    return np.stack([x, y, np.ones_like(x)], 1).astype(np.float32), weight


def _enter(
    origin: jax.Array, direction: jax.Array, half: jax.Array, ellipsoid: jax.Array
) -> jax.Array:
    """Depth at which rays enter parts, infinite where they miss; all in the parts' own axes, (...,
    3).
    """
    safe = jnp.where(jnp.abs(direction) < 1e-9, 1e-9, direction)
    first, second = (-half - origin) / safe, (half - origin) / safe
    near = jnp.minimum(first, second).max(-1)
    far = jnp.maximum(first, second).min(-1)
    box = jnp.where((near <= far) & (near > NEAR), near, jnp.inf)
    scaled_origin, scaled = origin / half, direction / half
    a, b = (scaled * scaled).sum(-1), (scaled_origin * scaled).sum(-1)
    discriminant = b * b - a * ((scaled_origin * scaled_origin).sum(-1) - 1)
    root = (-b - jnp.sqrt(jnp.maximum(discriminant, 0.0))) / a
    ball = jnp.where((discriminant > 0) & (root > NEAR), root, jnp.inf)
    return jnp.where(ellipsoid, ball, box)


def _normal(point: jax.Array, half: jax.Array, ellipsoid: jax.Array) -> jax.Array:
    """Outward unit normal at surface points in the part's own axes, (R, 3)."""
    scaled = point / half
    face = jnp.argmax(jnp.abs(scaled), axis=-1)
    box = jax.nn.one_hot(face, 3) * jnp.sign(scaled)
    ball = scaled / half
    normal = jnp.where(ellipsoid[:, None], ball, box)
    return normal / jnp.maximum(jnp.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)


def _turn(yaw: jax.Array, xy: jax.Array) -> jax.Array:
    """Rotates (..., 2) by yaw."""
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    return jnp.stack(
        [cos * xy[..., 0] - sin * xy[..., 1], sin * xy[..., 0] + cos * xy[..., 1]], axis=-1
    )


def _room(
    shell: Shell, origin: jax.Array, direction: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Depth, colour and inward normal of the room's surfaces along rays (R, 3)."""
    safe = jnp.where(jnp.abs(direction) < 1e-9, 1e-9, direction)
    leave = jnp.where(safe > 0, (shell.size - origin) / safe, -origin / safe)
    axis = jnp.argmin(leave, axis=-1)
    depth = leave.min(-1)
    point = origin + depth[:, None] * direction
    upper = jnp.take_along_axis(safe, axis[:, None], 1)[:, 0] > 0
    tile = (jnp.floor(point[:, 0] / 0.5) + jnp.floor(point[:, 1] / 0.5)).astype(jnp.int32) % 2
    wall = shell.wall_color[jnp.clip(2 * axis + upper, 0, 3)]
    ground = jnp.where(upper[:, None], shell.ceiling_color, shell.floor_color[tile])
    normal = jax.nn.one_hot(axis, 3) * jnp.where(upper, -1.0, 1.0)[:, None]
    return depth, jnp.where((axis == 2)[:, None], ground, wall), normal


@functools.partial(jax.jit, static_argnames=("width", "height", "num_objects"))
def _render(
    parts: Parts,
    shell: Shell,
    world_from_camera: jax.Array,
    rays: jax.Array,
    weight: jax.Array,
    *,
    width: int,
    height: int,
    num_objects: int,
) -> Rendering:
    pixels = width * height
    ellipsoid = parts.ellipsoid

    def frame(pose: jax.Array):
        origin, direction = pose[:3, 3], rays @ pose[:3, :3].T
        local_origin = origin - parts.center
        local_origin = jnp.concatenate(
            [_turn(-parts.yaw, local_origin[:, :2]), local_origin[:, 2:]], axis=-1
        )
        turned = _turn(-parts.yaw, direction[:, None, :2])
        local = jnp.concatenate(
            [turned, jnp.broadcast_to(direction[:, None, 2:], (*turned.shape[:2], 1))], axis=-1
        )
        enter = _enter(local_origin, local, parts.half_extent, ellipsoid)
        enter = jnp.where(parts.owner >= 0, enter, jnp.inf)  # (R, P)
        owners = jax.nn.one_hot(parts.owner, num_objects)
        covers = (jnp.isfinite(enter).astype(jnp.float32) @ owners) > 0  # (R, N)
        alone = weight @ covers
        inside = covers[:pixels].sum(0).astype(jnp.float32)

        enter = enter[:pixels]
        nearest = jnp.argmin(enter, axis=-1)
        part_depth = enter.min(-1)
        room_depth, room_color, room_normal = _room(shell, origin, direction[:pixels])
        hit = part_depth < room_depth
        depth = jnp.where(hit, part_depth, room_depth)
        point = (
            local_origin[nearest]
            + jnp.where(hit, part_depth, 0.0)[:, None]
            * jnp.take_along_axis(local[:pixels], nearest[:, None, None], 1)[:, 0]
        )
        normal = _normal(point, parts.half_extent[nearest], ellipsoid[nearest])
        normal = jnp.concatenate([_turn(parts.yaw[nearest], normal[:, :2]), normal[:, 2:]], axis=-1)
        normal = jnp.where(hit[:, None], normal, room_normal)
        base = jnp.where(hit[:, None], parts.color[nearest], room_color)
        world = origin + depth[:, None] * direction[:pixels]
        light = shell.size * jnp.array([0.5, 0.4, 0.98]) - world
        light = light / jnp.linalg.norm(light, axis=-1, keepdims=True)
        shade = AMBIENT + DIFFUSE * jnp.maximum((normal * light).sum(-1), 0.0)
        instance = jnp.where(hit, parts.owner[nearest], -1)
        seen = jax.nn.one_hot(instance, num_objects).sum(0)
        image = (height, width)
        return (
            jnp.clip(base * shade[:, None], 0.0, 1.0).reshape(*image, 3),
            depth.reshape(image),
            instance.reshape(image),
            seen,
            inside,
            alone,
        )

    return Rendering(*jax.lax.map(frame, world_from_camera))


def render(
    parts: Parts,
    shell: Shell,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    *,
    width: int,
    height: int,
    num_objects: int,
) -> Rendering:
    """Renders all frames of a room. Equal shapes are compiled once.

    Args:
        world_from_camera: (F, 4, 4), camera x right, y down, z forward.
        intrinsics: (3, 3) pinhole in pixels of the image, pixel middles at half-integers.
    """
    rays, weight = _ray_grid(width, height, intrinsics)
    return jax.device_get(
        _render(
            parts,
            shell,
            world_from_camera.astype(np.float32),
            rays,
            weight,
            width=width,
            height=height,
            num_objects=num_objects,
        )
    )
