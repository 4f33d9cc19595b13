"""A ray caster for rooms of boxes and ellipsoids: colour, depth, instances, exact coverage.

A pixel's ray has z component 1 in the camera, so its parameter *is* the z-depth. Parts are taken
one after the other, each against all rays of a frame at once: the rays' running minimum stays in
the cache. R rays, P parts, N objects, F frames.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.furniture import Texture

AMBIENT, DIFFUSE = 0.58, 0.42
LAMP = (0.5, 0.4, 0.98)  # where the light hangs, in shares of the room's sides
TILE = 0.5  # metres, side of a floor tile
PLANK, SKIRTING = 0.14, 0.09  # metres, width and height
CANVAS = 2  # the unbounded canvas is approximated by one this many times as wide as the image
RING_STRIDE = 2  # pixels between rays outside the image
NEAR = 1e-3  # metres
LIFT = 2e-3  # metres off a surface, where a ray to the lamp begins
MAX_OBJECTS = 32  # what a ray passes is kept in the bits of one word
PADDING, STRUCTURE = -1, -2
SHADOW = 0.72  # of the light's share, where something stands before the lamp
TEXTURES: tuple[Texture, ...] = (
    "plain",
    "wood",
    "fabric",
    "leaves",
    "books",
    "bricks",
    "screen",
    "view",
    "stripes",
)
PATTERNS = ("wood", "fabric", "leaves", "bricks", "screen", "stripes")  # that shade their colour

Vector = tuple[jax.Array, jax.Array, jax.Array]  # x, y, z


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Parts:
    """Parts of all objects of a room, padded; the padding comes last."""

    center: jax.Array  # (P, 3) f32, world metres
    half_extent: jax.Array  # (P, 3) f32, metres
    yaw: jax.Array  # (P,) f32, radians about +z
    ellipsoid: jax.Array  # (P,) bool, else a box
    color: jax.Array  # (P, 3) f32
    owner: jax.Array  # (P,) i32, object index, STRUCTURE for walls, PADDING for padding
    texture: jax.Array | None = None  # (P,) i32, index into TEXTURES; None: plain, without shadows


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shell:
    """The room itself: a box seen from inside."""

    size: jax.Array  # (3,) f32, metres; the floor's corner is the origin
    wall_color: jax.Array  # (4, 3) f32: x = 0, x = size, y = 0, y = size
    floor_color: jax.Array  # (2, 3) f32, of the two kinds of tiles
    ceiling_color: jax.Array  # (3,) f32
    # () bool, whether the floor is of planks; None: plain, without skirting, textures and shadows
    planks: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rendering:
    color: jax.Array  # (F, H, W, 3) uint8
    depth: jax.Array  # (F, H, W) f32, metres along z
    instance: jax.Array  # (F, H, W) i32, object index, -1 for the room
    seen: jax.Array  # (F, N) f32, pixels on which the object is seen
    inside: jax.Array  # (F, N) f32, pixels of the image that the object would cover alone
    alone: jax.Array  # (F, N) f32, pixels it would cover alone on the canvas


def _ray_grid(width: int, height: int, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3, R) directions in the camera, image rays first in raster order, and (R,) pixels that each
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
    # A ray goes through the centre of its pixel.
    x = (pixel_u + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (pixel_v + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    return np.stack([x, y, np.ones_like(x)]).astype(np.float32), weight


def _turn(yaw: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A plane vector's components, rotated by yaw."""
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    return cos * x - sin * y, sin * x + cos * y


def _enter_box(origin: Vector, direction: Vector, half: Vector) -> jax.Array:
    """Depth (R,) at which rays enter a box, infinite where they miss; all in the box's own axes."""
    near, far = -jnp.inf, jnp.inf
    for start, step, reach in zip(origin, direction, half, strict=True):
        inverse = 1.0 / jnp.where(jnp.abs(step) < 1e-9, 1e-9, step)
        middle, slab = -start * inverse, reach * jnp.abs(inverse)
        near, far = jnp.maximum(near, middle - slab), jnp.minimum(far, middle + slab)
    return jnp.where((near <= far) & (near > NEAR), near, jnp.inf)


def _enter_ellipsoid(origin: Vector, direction: Vector, half: Vector) -> jax.Array:
    """As `_enter_box`, for an ellipsoid of the half axes given."""
    a, b, c = 0.0, 0.0, -1.0
    for start, step, reach in zip(origin, direction, half, strict=True):
        start, step = start / reach, step * (1.0 / reach)
        a, b, c = a + step * step, b + start * step, c + start * start
    discriminant = b * b - a * c
    root = (-b - jnp.sqrt(jnp.maximum(discriminant, 0.0))) / a
    return jnp.where((discriminant > 0) & (root > NEAR), root, jnp.inf)


def _cast(
    parts: Parts, origin: jax.Array, direction: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Along rays (3, R) of the world, from one origin (3,) or one each (3, R): depth of the nearest
    part (infinite without any), its index, and the objects that the ray passes through as bits of a
    word; (R,) each.
    """

    def one(index: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]):
        depth, nearest, passed = carry
        yaw, half = parts.yaw[index], tuple(parts.half_extent[index])
        offset = origin - parts.center[index].reshape(3, *[1] * (origin.ndim - 1))
        # One array a component: XLA then fuses a part's whole test into one loop over the rays.
        start = (*_turn(-yaw, offset[0], offset[1]), offset[2])
        step = (*_turn(-yaw, direction[0], direction[1]), direction[2])
        enter = jnp.where(
            parts.ellipsoid[index],
            _enter_ellipsoid(start, step, half),
            _enter_box(start, step, half),
        )
        owner = parts.owner[index]
        bit = jnp.left_shift(jnp.uint32(1), jnp.maximum(owner, 0).astype(jnp.uint32))
        bit = jnp.where(owner >= 0, bit, jnp.uint32(0))
        closer = enter < depth
        return (
            jnp.where(closer, enter, depth),
            jnp.where(closer, index, nearest),
            passed | jnp.where(jnp.isfinite(enter), bit, jnp.uint32(0)),
        )

    rays = direction.shape[1]
    none = (jnp.full(rays, jnp.inf), jnp.zeros(rays, jnp.int32), jnp.zeros(rays, jnp.uint32))
    return jax.lax.fori_loop(0, (parts.owner != PADDING).sum(), one, none)


def _normal(point: jax.Array, half: jax.Array, ellipsoid: jax.Array) -> jax.Array:
    """Outward unit normal at surface points (3, R) in the part's own axes."""
    scaled = point / half
    face = jnp.argmax(jnp.abs(scaled), axis=0)
    box = jnp.where(jnp.arange(3)[:, None] == face, jnp.sign(scaled), 0.0)
    normal = jnp.where(ellipsoid, scaled / half, box)
    return normal / jnp.maximum(jnp.sqrt((normal * normal).sum(0)), 1e-9)


def _room(
    shell: Shell, origin: jax.Array, direction: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Depth (R,), colour and inward normal (3, R) of the room's surfaces along rays (3, R)."""
    safe = jnp.where(jnp.abs(direction) < 1e-9, 1e-9, direction)
    leave = jnp.where(safe > 0, (shell.size - origin)[:, None], -origin[:, None]) / safe
    axis, depth = jnp.argmin(leave, axis=0), leave.min(0)
    point = origin[:, None] + depth * direction
    upper = jnp.take_along_axis(safe, axis[None], 0)[0] > 0
    tile = (jnp.floor(point[0] / TILE) + jnp.floor(point[1] / TILE)).astype(jnp.int32) % 2
    wall = shell.wall_color.T[:, jnp.clip(2 * axis + upper, 0, 3)]
    floor = shell.floor_color.T[:, tile]
    wall, floor = _finished(shell, wall, floor, point)
    ground = jnp.where(upper, shell.ceiling_color[:, None], floor)
    normal = jnp.where(jnp.arange(3)[:, None] == axis, jnp.where(upper, -1.0, 1.0), 0.0)
    return depth, jnp.where(axis == 2, ground, wall), normal


def _finished(
    shell: Shell, wall: jax.Array, floor: jax.Array, point: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Wall and floor colours (3, R) at world points (3, R), with skirting, and planks where the
    floor has them.
    """
    if shell.planks is None:
        return wall, floor
    wall = jnp.where(point[2] < SKIRTING, jnp.array([[0.93], [0.92], [0.9]]), wall)
    row = jnp.floor(point[1] / PLANK)
    piece = jnp.floor((point[0] + 1.7 * _noise(row)) / 1.2)
    shade = 0.78 + 0.3 * _noise(row, piece)
    shade = shade * (0.97 + 0.03 * jnp.sin(90 * point[1] + 2 * jnp.sin(5 * point[0])))
    planks = shell.floor_color[0][:, None] * shade
    return wall, jnp.where(shell.planks, planks, floor)


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

    def frame(pose: jax.Array) -> Rendering:
        origin = pose[:3, 3]
        direction = jnp.matmul(pose[:3, :3], rays, precision=jax.lax.Precision.HIGHEST)
        depth, nearest, passed = _cast(parts, origin, direction)
        bits = jnp.arange(num_objects, dtype=jnp.uint32)[:, None]
        covers = ((passed >> bits) & 1).astype(jnp.float32)  # (N, R)

        depth, nearest, direction = depth[:pixels], nearest[:pixels], direction[:, :pixels]
        room_depth, room_color, room_normal = _room(shell, origin, direction)
        hit = depth < room_depth
        depth = jnp.where(hit, depth, room_depth)
        point = origin[:, None] + depth * direction
        color, normal = _surface(parts, nearest, point)
        color = jnp.where(hit, color, room_color)
        normal = jnp.where(hit, normal, room_normal)
        light = (shell.size * jnp.array(LAMP))[:, None] - point
        lit = jnp.where(_shadowed(parts, point + LIFT * normal, light), 1 - SHADOW, 1.0)
        light = light / jnp.sqrt((light * light).sum(0))
        shade = AMBIENT + DIFFUSE * lit * jnp.maximum((normal * light).sum(0), 0.0)
        instance = jnp.where(hit, jnp.maximum(parts.owner[nearest], -1), -1)
        image = (height, width)
        return Rendering(
            color=jnp.rint(jnp.clip(color * shade, 0.0, 1.0) * 255)
            .astype(jnp.uint8)
            .T.reshape(*image, 3),
            depth=depth.reshape(image),
            instance=instance.reshape(image),
            seen=(instance == jnp.arange(num_objects)[:, None]).astype(jnp.float32).sum(1),
            inside=covers[:, :pixels].sum(1),
            alone=(covers * weight).sum(1),
        )

    return jax.lax.map(frame, world_from_camera)


def _shadowed(parts: Parts, point: jax.Array, light: jax.Array) -> jax.Array:
    """(R,) whether a part stands between points (3, R) and the lamp, `light` (3, R) away."""
    if parts.texture is None:
        return jnp.zeros((), bool)
    depth, _, _ = _cast(parts, point, light)
    return depth < 1.0


def _surface(parts: Parts, nearest: jax.Array, point: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Colour and world normal (3, R) of the parts `nearest` (R,) at world points (3, R)."""
    yaw = parts.yaw[nearest]
    offset = point - parts.center[nearest].T
    local = jnp.stack([*_turn(-yaw, offset[0], offset[1]), offset[2]])
    half = parts.half_extent[nearest].T
    normal = _normal(local, half, parts.ellipsoid[nearest])
    color = parts.color[nearest].T
    if parts.texture is not None:
        color = _textured(color, parts.texture[nearest], local, half)
    return color, jnp.stack([*_turn(yaw, normal[0], normal[1]), normal[2]])


def _noise(*cells: jax.Array) -> jax.Array:
    """A number in [0, 1) for each integer cell, (R,) components: the same cell, the same number."""
    mixed = jnp.uint32(0x9E3779B9)
    for cell in cells:
        mixed = (mixed ^ cell.astype(jnp.int32).astype(jnp.uint32)) * jnp.uint32(0x85EBCA6B)
        mixed = mixed ^ (mixed >> 13)
    return (mixed * jnp.uint32(0xC2B2AE35) >> 8).astype(jnp.float32) / 2**24


def _textured(color: jax.Array, texture: jax.Array, local: jax.Array, half: jax.Array) -> jax.Array:
    """Colour (3, R) with the pattern of its part; `local` (3, R) are metres in the part's axes."""
    x, y, z = local
    long = jnp.argmax(half, axis=0)
    along = jnp.take_along_axis(local, long[None], 0)[0]
    across = x + y + z - along
    grain = 0.93 + 0.07 * jnp.sin(
        2 * jnp.pi * (16 * across + 0.8 * jnp.sin(4 * along) + _noise(jnp.floor(across / 0.12)))
    )
    weave = 0.86 + 0.2 * _noise(*(jnp.floor(local / 0.02)))
    leaf = 0.5 + 0.8 * _noise(*(jnp.floor(local / 0.045)))
    spine = jnp.floor(x / 0.035)
    book = jnp.stack([_noise(spine, jnp.full_like(spine, c)) for c in range(3)]) * 0.6 + 0.2
    course = jnp.floor(z / 0.08)
    brick = jnp.floor((x + y) / 0.22 + 0.5 * (course % 2))
    joint = ((z / 0.08) % 1 < 0.12) | (((x + y) / 0.22 + 0.5 * (course % 2)) % 1 < 0.06)
    bricks = jnp.where(joint, 1.25, 0.75 + 0.4 * _noise(course, brick))
    # Screens shine towards one corner; a view is a sky over hills.
    shine = 0.75 + 0.45 * jnp.clip((x / half[0] + z / half[2]) / 2, -0.5, 1)
    hill = z / half[2] < 0.35 * jnp.sin(3 * x / half[0]) - 0.25
    view = jnp.where(hill, jnp.array([0.32, 0.50, 0.28])[:, None], color * 1.05)
    stripe = jnp.where(jnp.floor((x + y) / 0.05) % 2 == 0, 1.0, 0.78)
    factor = jnp.select(
        [texture == TEXTURES.index(name) for name in PATTERNS],
        [grain, weave, leaf, bricks, shine, stripe],
        1.0,
    )
    color = color * factor
    color = jnp.where(texture == TEXTURES.index("books"), book, color)
    return jnp.where(texture == TEXTURES.index("view"), view, color)


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
    """Renders all frames of a room; the result's leaves are NumPy. Equal shapes compile once.

    Args:
        world_from_camera: (F, 4, 4), camera x right, y down, z forward.
        intrinsics: (3, 3) pinhole in pixels of the image, pixel centres at half-integers.

    Raises:
        ValueError: more objects than a word has bits.
    """
    if num_objects > MAX_OBJECTS:
        raise ValueError(f"num_objects: expected at most {MAX_OBJECTS}, got {num_objects}.")
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
