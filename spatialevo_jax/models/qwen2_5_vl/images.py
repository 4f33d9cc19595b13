"""From pixels to what the vision tower takes. Host side, NumPy and Pillow.

Everything that depends on the size of an image is made here as index arrays, so that the compiled
model sees totals only: W windows, I images, V visual tokens. Where these vary, they are padded to a
`VisionShape`: the same shape is the same program.

A video is an image with several temporal patches. In the vision tower no temporal patch sees
another, so each of them counts as an image of its own there.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from geometry_jax.types import leaf
from spatialevo_jax.models.qwen2_5_vl.config import VisionConfig

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # CLIP's, RGB in [0, 1]
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
MAX_ASPECT = 200
LISTED = 32  # grids that a message lists

Grid = tuple[int, int, int]  # patches (time, height, width)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VisionInputs:
    """Images packed by window. K patches fill a window; M is the most patches of an image."""

    patches: jax.Array  # (W, K, patch_dim) f32
    valid: jax.Array  # (W, K) bool, False for the padding of windows at an image's edge
    positions: jax.Array  # (W, K, 2) i32, row and column of the patch in its image
    image_slots: jax.Array  # (I, M) i32, flat W * K index of the patches of each image
    image_valid: jax.Array  # (I, M) bool
    return_slots: jax.Array  # (W * K,) i32, flat I * M index of each window slot
    token_slots: (
        jax.Array
    )  # (V, merge * merge) i32, flat W * K indices of the patches of each visual token


class VisionShape(NamedTuple):
    """The sizes of `VisionInputs`. Nothing else about images reaches a compiled program."""

    windows: int  # W
    images: int  # I, still images and temporal patches of videos
    image_patches: int  # M
    tokens: int  # V


class Visual(NamedTuple):
    """What a prompt has to know of an image or a video."""

    grid: Grid
    seconds: float | None = None  # between the temporal patches of a video; None: a still image

    @property
    def kind(self) -> str:
        return "image" if self.seconds is None else "video"


class Patches(NamedTuple):
    """One preprocessed image or video."""

    values: np.ndarray  # (t * h * w, patch_dim) f32, merge blocks together, blocks in raster order
    grid: Grid
    seconds: float | None = None  # as in `Visual`

    @property
    def visual(self) -> Visual:
        return Visual(self.grid, self.seconds)


def smart_resize(
    height: int, width: int, *, factor: int = 28, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """The nearest size in multiples of `factor` with the pixels in range, aspect ratio nearly kept.

    Raises:
        ValueError: one side more than 200 times the other.
    """
    if max(height, width) / min(height, width) > MAX_ASPECT:
        raise ValueError(f"expected an aspect ratio below {MAX_ASPECT}, got {width}x{height}.")
    new_height, new_width = round(height / factor) * factor, round(width / factor) * factor
    if new_height * new_width > max_pixels:
        scale = math.sqrt(height * width / max_pixels)
        new_height = max(factor, math.floor(height / scale / factor) * factor)
        new_width = max(factor, math.floor(width / scale / factor) * factor)
    elif new_height * new_width < min_pixels:
        scale = math.sqrt(min_pixels / (height * width))
        new_height = math.ceil(height * scale / factor) * factor
        new_width = math.ceil(width * scale / factor) * factor
    return new_height, new_width


def preprocess(
    image: np.ndarray,
    config: VisionConfig,
    *,
    min_pixels: int = 56 * 56,
    max_pixels: int = 28 * 28 * 1280,
) -> Patches:
    """(H, W, 3) uint8 RGB -> normalised patches, as the released image processor makes them."""
    pixels = _resized(image, config, min_pixels, max_pixels)
    # A still image fills all frames of its temporal patch.
    return Patches(
        *_cut(np.broadcast_to(pixels, (config.temporal_patch_size, *pixels.shape)), config)
    )


def preprocess_video(
    frames: np.ndarray,
    config: VisionConfig,
    *,
    fps: float,
    min_pixels: int = 28 * 28 * 128,
    max_pixels: int = 28 * 28 * 768,
) -> Patches:
    """(F, H, W, 3) uint8 RGB frames, `fps` of them a second -> normalised patches, each frame as an
    image. The last frame is repeated where a temporal patch lacks one. The limits are those of one
    frame.

    Raises:
        ValueError: no frames, or a rate that is not above 0.
    """
    if frames.ndim != 4 or not len(frames):
        raise ValueError(f"expected frames (F, H, W, 3) of a video, got shape {frames.shape}.")
    if not 0 < fps < math.inf:
        raise ValueError(f"fps: expected frames a second above 0, got {fps}.")
    pixels = np.stack([_resized(frame, config, min_pixels, max_pixels) for frame in frames])
    missing = -len(pixels) % config.temporal_patch_size
    pixels = np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])
    return Patches(*_cut(pixels, config), seconds=config.temporal_patch_size / fps)


def _resized(
    image: np.ndarray, config: VisionConfig, min_pixels: int, max_pixels: int
) -> np.ndarray:
    """(H, W, 3) uint8 -> (h, w, 3) f32, of whole merge blocks and normalised."""
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"expected an image (H, W, 3) of uint8, got {image.dtype} of shape {image.shape}."
        )
    height, width = smart_resize(
        *image.shape[:2],
        factor=config.patch_size * config.spatial_merge_size,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
    )
    if image.shape[:2] != (height, width):
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        image = np.asarray(resized)
    return (image.astype(np.float32) / np.float32(255) - MEAN) / STD


def _cut(frames: np.ndarray, config: VisionConfig) -> tuple[np.ndarray, Grid]:
    """(F, h, w, 3) whole temporal patches of frames -> values and grid of `Patches`."""
    patch, merge, depth = config.patch_size, config.spatial_merge_size, config.temporal_patch_size
    times, rows, columns = (
        size // step for size, step in zip(frames.shape, (depth, patch, patch), strict=False)
    )
    blocks = frames.reshape(
        times, depth, rows // merge, merge, patch, columns // merge, merge, patch, 3
    )
    # time, block row, block column, row, column; channel, frame, y, x
    blocks = blocks.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return blocks.reshape(-1, config.patch_dim), (times, rows, columns)


def _image_windows(grid: Grid, config: VisionConfig) -> list[np.ndarray]:
    """Patch indices of each window of one image; merge blocks stay together."""
    merge = config.spatial_merge_size
    side = config.window_side // merge  # merge blocks along a window
    frames, rows, columns = grid[0], grid[1] // merge, grid[2] // merge
    blocks = np.arange(frames * rows * columns).reshape(frames, rows, columns)
    inside = np.arange(merge**2)
    return [
        (
            blocks[frame, top : top + side, left : left + side].reshape(-1, 1) * merge**2 + inside
        ).ravel()
        for frame in range(frames)
        for top in range(0, rows, side)
        for left in range(0, columns, side)
    ]


def _patch_positions(grid: Grid, merge: int) -> np.ndarray:
    """(t * h * w, 2) row and column of each patch in the order of `Patches.values`."""
    frames, rows, columns = grid
    index = np.indices((rows, columns)).reshape(2, rows // merge, merge, columns // merge, merge)
    flat = index.transpose(1, 3, 2, 4, 0).reshape(-1, 2)
    return np.tile(flat, (frames, 1))


def needed_shape(grids: Sequence[Grid], config: VisionConfig) -> VisionShape:
    """What images and videos of these grids take, without padding."""
    merge = config.spatial_merge_size
    side = config.window_side
    return VisionShape(
        windows=sum(t * -(-h // side) * -(-w // side) for t, h, w in grids),
        images=sum(t for t, _, _ in grids),
        image_patches=max((h * w for _, h, w in grids), default=0),
        tokens=sum(t * h * w for t, h, w in grids) // merge**2,
    )


def pool_shape(grids: Iterable[Grid], config: VisionConfig) -> VisionShape:
    """What any one image of a pool of such grids takes, at most."""
    needed = [needed_shape([grid], config) for grid in grids]
    return VisionShape(*(max(sizes) for sizes in zip(*needed, strict=True)))


def several(one: VisionShape, count: int) -> VisionShape:
    """What `count` images take, each of them `one` at most."""
    return VisionShape(count * one.windows, count, one.image_patches, count * one.tokens)


def bucket_shape(needed: VisionShape, least: VisionShape) -> VisionShape:
    """The shape to pad to: each size the next power of two, and no less than `least`.

    With `least` near what most batches need, nearly all of them are one shape; the others add a few
    more, and none fails.
    """
    return VisionShape(
        *(
            max(low, 1 << max(size - 1, 0).bit_length())
            for size, low in zip(needed, least, strict=True)
        )
    )


def require_fit(
    sample: str, grids: Sequence[Grid], config: VisionConfig, budget: VisionShape
) -> None:
    """Checks a sample's images against the padded sizes that it will be packed into.

    Raises:
        ValueError: they do not fit; it names the sample, the grids and the budget.
    """
    needed = needed_shape(grids, config)
    if any(size > room for size, room in zip(needed, budget, strict=True)):
        raise ValueError(
            f"{sample}: images of {grid_list(grids)} patches do not fit the budget: "
            f"expected at most {_sizes(budget)}, got {_sizes(needed)}."
        )


def grid_list(grids: Sequence[Grid]) -> str:
    """For messages: all of a sample's grids, the first of a large batch's."""
    shown = " ".join(map(str, grids[:LISTED])) or "none"
    return shown if len(grids) <= LISTED else f"{shown} and {len(grids) - LISTED} more"


def _sizes(shape: VisionShape) -> str:
    return (
        f"{shape.tokens} visual tokens in {shape.windows} windows of {shape.images} images with "
        f"{shape.image_patches} patches each"
    )


def pack_images(
    images: Sequence[Patches], config: VisionConfig, shape: VisionShape | None = None
) -> VisionInputs:
    """Lays the images out by window. Visual tokens come out image by image, each in raster order,
    those of a video frame by frame.

    `shape` pads: to one that is the same for many batches where images have many sizes. Features
    behind the real ones mean nothing. By default nothing is padded, for images of one size.

    Raises:
        ValueError: no image and no shape, images that do not fit the shape, or patches that do not
            match their grid.
    """
    grids = [image.grid for image in images]
    if shape is None:
        if not images:
            raise ValueError("expected at least one image, got none.")
        shape = needed_shape(grids, config)
    require_fit(f"batch of {len(images)} images", grids, config, shape)
    size, merge = config.window_patches, config.spatial_merge_size
    patches = np.zeros((shape.windows, size, config.patch_dim), np.float32)
    valid = np.zeros((shape.windows, size), bool)
    positions = np.zeros((shape.windows, size, 2), np.int32)
    image_slots = np.zeros((shape.images, shape.image_patches), np.int32)
    image_valid = np.zeros((shape.images, shape.image_patches), bool)
    return_slots = np.zeros(shape.windows * size, np.int32)
    token_slots = np.zeros((shape.tokens, merge**2), np.int32)
    windows = seen = tokens = 0
    for number, (values, grid, _) in enumerate(images):
        if len(values) != math.prod(grid):
            raise ValueError(
                f"image {number}: expected {math.prod(grid)} patches for grid {grid}, "
                f"got {len(values)}."
            )
        where = _patch_positions(grid, merge)
        slots = np.empty(len(values), np.int32)
        for window in _image_windows(grid, config):
            used = len(window)
            slots[window] = windows * size + np.arange(used)
            patches[windows, :used] = values[window]
            positions[windows, :used] = where[window]
            valid[windows, :used] = True
            windows += 1
        for frame in slots.reshape(grid[0], -1):
            image_slots[seen, : len(frame)] = frame
            image_valid[seen, : len(frame)] = True
            return_slots[frame] = seen * shape.image_patches + np.arange(len(frame))
            seen += 1
        blocks = slots.reshape(-1, merge**2)
        token_slots[tokens : tokens + len(blocks)] = blocks
        tokens += len(blocks)
    arrays = (patches, valid, positions, image_slots, image_valid, return_slots, token_slots)
    return VisionInputs(*map(leaf, arrays))


def shared_shape(parts: Sequence[VisionShape], multiple: int) -> VisionShape:
    """The least shape that each of these fits and whose rows divide by `multiple`: what hosts that
    pack a part of the images each agree on.
    """
    windows, images, patches, tokens = (max(sizes) for sizes in zip(*parts, strict=True))

    def up(size: int) -> int:
        return -(-size // multiple) * multiple

    return VisionShape(up(windows), up(images), patches, up(tokens))


def as_block(packed: VisionInputs, block: int) -> VisionInputs:
    """The same images as block number `block` of several that are packed to one shape and joined:
    what points into flat arrays points into those of the whole.
    """
    windows = block * math.prod(packed.valid.shape)
    return dataclasses.replace(
        packed,
        image_slots=packed.image_slots + np.int32(windows),
        return_slots=packed.return_slots + np.int32(block * math.prod(packed.image_valid.shape)),
        token_slots=packed.token_slots + np.int32(windows),
    )
