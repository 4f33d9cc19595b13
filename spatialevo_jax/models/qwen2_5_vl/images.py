"""From pixels to what the vision tower takes. Host side, NumPy and Pillow.

Everything that depends on the size of an image is made here as index arrays, so that the compiled
model sees totals only: W windows, I images, V visual tokens.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from geometry_jax.types import leaf
from spatialevo_jax.models.qwen2_5_vl.config import VisionConfig

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # CLIP's, RGB in [0, 1]
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
MAX_ASPECT = 200


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


class Patches(NamedTuple):
    """One preprocessed image."""

    values: np.ndarray  # (t * h * w, patch_dim) f32, merge blocks together, blocks in raster order
    grid: tuple[int, int, int]  # patches (time, height, width)


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
    patch, merge, frames = config.patch_size, config.spatial_merge_size, config.temporal_patch_size
    height, width = smart_resize(
        *image.shape[:2], factor=patch * merge, min_pixels=min_pixels, max_pixels=max_pixels
    )
    if image.shape[:2] != (height, width):
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        image = np.asarray(resized)
    pixels = (image.astype(np.float32) / np.float32(255) - MEAN) / STD
    rows, columns = height // patch, width // patch
    blocks = pixels.reshape(rows // merge, merge, patch, columns // merge, merge, patch, 3)
    blocks = blocks.transpose(
        0, 3, 1, 4, 6, 2, 5
    )  # block row, block column, row, column, channel, y, x
    blocks = np.broadcast_to(
        blocks[..., None, :, :], (*blocks.shape[:5], frames, patch, patch)
    )  # a still image fills all frames of the temporal patch
    return Patches(blocks.reshape(rows * columns, config.patch_dim), (1, rows, columns))


def _image_windows(grid: tuple[int, int, int], config: VisionConfig) -> list[np.ndarray]:
    """Patch indices of each window of one image; merge blocks stay together."""
    merge = config.spatial_merge_size
    side = config.window_size // config.patch_size // merge  # merge blocks along a window
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


def _patch_positions(grid: tuple[int, int, int], merge: int) -> np.ndarray:
    """(t * h * w, 2) row and column of each patch in the order of `Patches.values`."""
    frames, rows, columns = grid
    index = np.indices((rows, columns)).reshape(2, rows // merge, merge, columns // merge, merge)
    flat = index.transpose(1, 3, 2, 4, 0).reshape(-1, 2)
    return np.tile(flat, (frames, 1))


def pack_images(images: Sequence[Patches], config: VisionConfig) -> VisionInputs:
    """Lays the images out by window. Visual tokens come out image by image, each in raster order.

    Raises:
        ValueError: no image, or patches that do not match their grid.
    """
    if not images:
        raise ValueError("expected at least one image, got none.")
    size, merge = config.window_patches, config.spatial_merge_size
    patches, valid, positions, slots_of_image, token_slots = [], [], [], [], []
    windows = 0
    for number, (values, grid) in enumerate(images):
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
            padding = ((0, size - used), (0, 0))
            patches.append(np.pad(values[window], padding))
            positions.append(np.pad(where[window], padding))
            valid.append(np.arange(size) < used)
            windows += 1
        slots_of_image.append(slots)
        token_slots.append(slots.reshape(-1, merge**2))
    longest = max(len(slots) for slots in slots_of_image)
    image_slots = np.zeros((len(images), longest), np.int32)
    image_valid = np.zeros((len(images), longest), bool)
    return_slots = np.zeros(windows * size, np.int32)
    for number, slots in enumerate(slots_of_image):
        image_slots[number, : len(slots)] = slots
        image_valid[number, : len(slots)] = True
        return_slots[slots] = number * longest + np.arange(len(slots))
    return VisionInputs(
        patches=leaf(np.stack(patches)),
        valid=leaf(np.stack(valid)),
        positions=leaf(np.stack(positions).astype(np.int32)),
        image_slots=leaf(image_slots),
        image_valid=leaf(image_valid),
        return_slots=leaf(return_slots),
        token_slots=leaf(np.concatenate(token_slots)),
    )
