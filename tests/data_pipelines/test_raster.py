"""Triangles to depth, against a case by hand, brute force, and laws."""

import numpy as np
import pytest

from data_pipelines import raster

SIZE = (48, 36)
INTRINSICS = np.array([[40.0, 0.0, 24.0], [0.0, 40.0, 18.0], [0.0, 0.0, 1.0]])


def draw(points: np.ndarray, faces: np.ndarray, owner: np.ndarray) -> list[raster.Layer]:
    """All triangles (T, 3) of camera points (V, 3), on an image of SIZE."""
    corners = raster.project(
        np.asarray(points, np.float32).T,
        np.asarray(faces, np.int32).T,
        np.asarray(owner, np.int32),
        INTRINSICS,
        (0, 0),
        SIZE,
    )
    return raster.rasterise(corners, SIZE)


def whole(layer: raster.Layer) -> np.ndarray:
    """The layer's nearness on the whole image."""
    image = np.zeros(SIZE[::-1], np.float32)
    image[layer.window] = layer.nearness
    return image


def rays() -> np.ndarray:
    """(h, w, 3) directions through the middles of pixels, z = 1."""
    v, u = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    return np.stack([(u - 24) / 40, (v - 18) / 40, np.ones_like(u)], axis=-1)


def cast(triangle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth (h, w) along every ray, 0 where it misses or is nearer than NEAR, and how far inside
    the triangle the ray passes, as the least barycentric weight: near 0 either answer is right.
    """
    a, b, c = triangle.astype(np.float64)
    directions = rays()
    normal = np.cross(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = (a @ normal) / (directions @ normal)
        point = directions * depth[..., None]
        area = normal @ normal
        weights = [
            np.cross(second - first, point - first) @ normal / area
            for first, second in ((a, b), (b, c), (c, a))
        ]
    inner = np.min(weights, axis=0)
    return np.where((inner >= 0) & (depth > raster.NEAR), depth, 0), inner


def test_a_triangle_covers_the_middles_inside_it() -> None:
    # At z = 4, a pixel is 0.1 m: corners at columns 24, 28, 24 and rows 18, 18, 22.
    points = [[0, 0, 4], [0.4, 0, 4], [0, 0.4, 4]]
    (layer,) = draw(np.array(points), np.array([[0, 1, 2]]), np.array([5]))
    assert (layer.owner, layer.left, layer.top) == (5, 24, 18)
    # Middles on the slanted edge (column + row = 4 - 1) are of one of its two sides.
    expected = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    covered = (layer.nearness > 0).astype(int)
    assert covered.shape in ((3, 3), (4, 4))
    rows, columns = covered.shape
    edge = np.fliplr(np.eye(4, dtype=int))[:rows, :columns]
    np.testing.assert_array_equal(covered * (1 - edge), expected[:rows, :columns] * (1 - edge))
    np.testing.assert_allclose(layer.nearness[layer.nearness > 0], 0.25, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_random_triangles_agree_with_rays_also_across_the_camera_plane(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform([-2, -2, -1], [2, 2, 4], (60, 3)).astype(np.float32)
    faces = rng.permutation(60).reshape(20, 3)
    layers = {layer.owner: whole(layer) for layer in draw(points, faces, np.arange(20))}
    covered = 0
    for index, face in enumerate(faces):
        depth, inner = cast(points[face])
        clear = (np.abs(inner) > 1e-3) & ((depth == 0) | (depth > 0.01))
        found = layers.get(index, np.zeros(SIZE[::-1], np.float32))
        np.testing.assert_array_equal((found > 0)[clear], (depth > 0)[clear])
        both = clear & (depth > 0)
        np.testing.assert_allclose(1 / found[both], depth[both], rtol=2e-3)
        covered += both.sum()
    assert covered > 1000


def test_a_surface_of_triangles_covers_every_pixel_once() -> None:
    """Each triangle for itself: their layers neither overlap nor leave gaps at edges."""
    rng = np.random.default_rng(1)
    u, v = np.meshgrid(np.linspace(-1, 1, 15), np.linspace(-1, 1, 13))
    inner = (np.abs(u) < 1) & (np.abs(v) < 1)
    u, v = (
        u + inner * rng.uniform(-0.05, 0.05, u.shape),
        v + inner * rng.uniform(-0.05, 0.05, u.shape),
    )
    z = rng.uniform(1.0, 1.3, u.shape)
    points = np.stack([u * z, v * z, z], axis=-1).reshape(-1, 3)  # every ray meets it once
    at = np.arange(u.size).reshape(u.shape)
    quads = (at[:-1, :-1], at[:-1, 1:], at[1:, 1:], at[1:, :-1])
    a, b, c, d = (corner.ravel() for corner in quads)
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    faces = np.stack([np.roll(face, rng.integers(3)) for face in faces])
    count = sum(
        (whole(layer) > 0).astype(int) for layer in draw(points, faces, np.arange(len(faces)))
    )
    np.testing.assert_array_equal(count, np.ones(SIZE[::-1], int))


def test_the_nearest_triangle_of_an_owner_wins_and_owners_stay_apart() -> None:
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 4.0
    points = np.concatenate([np.column_stack([square, np.full(4, z)]) for z in (3.0, 2.0, 2.5)])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    faces = np.concatenate([faces, faces + 4, faces + 8])
    layers = draw(points, faces, np.array([7, 7, 7, 7, 1, 1]))
    assert [layer.owner for layer in layers] == [1, 7]
    np.testing.assert_allclose(whole(layers[0]), 1 / 2.5, rtol=1e-6)
    np.testing.assert_allclose(whole(layers[1]), 1 / 2.0, rtol=1e-6)


def test_what_is_behind_beside_or_edge_on_is_not_drawn() -> None:
    triangle = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]])
    faces, owner = np.array([[0, 1, 2]]), np.array([0])
    assert draw(triangle + [0, 0, -2], faces, owner) == []
    assert draw(triangle + [30, 0, 2], faces, owner) == []
    assert draw(np.array([[0, 0, 1], [0, 0, 2], [0, 0, 3.0]]), faces, owner) == []
    assert draw(triangle + [0, 0, 2], faces, owner) != []
