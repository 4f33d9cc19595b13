"""Which frames are kept: greedy, repeatable, and undisturbed by frames that do not decode."""

import dataclasses
import itertools

import numpy as np
import pytest

from data_pipelines import coverage
from data_pipelines.scan import Mesh, ScanError, ScanFrame

WIDTH, HEIGHT = 32, 24
K = np.array([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]])
NO_MESH = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.int32))


def frame(frame_id: int, x: float, depth_size: tuple[int, int] = (WIDTH, HEIGHT)) -> ScanFrame:
    """Looks along z from (x, 0, 0)."""
    pose = np.eye(4)
    pose[0, 3] = x
    return ScanFrame(frame_id, f"{frame_id:06d}", pose, K, K, (WIDTH, HEIGHT), depth_size)


@dataclasses.dataclass(frozen=True)
class Walls:
    """A wall straight ahead, as far as the table says (millimetres)."""

    away: dict[int, int]
    broken_depth: tuple[int, ...] = ()
    broken_color: tuple[int, ...] = ()

    def color(self, frame: ScanFrame) -> np.ndarray:
        if frame.frame_id in self.broken_color:
            raise ScanError(f"{frame.source}.jpg: cut short.")
        return np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        return None

    def depth(self, frame: ScanFrame) -> np.ndarray:
        if frame.frame_id in self.broken_depth:
            raise ScanError(f"{frame.source}.png: cut short.")
        return np.full((HEIGHT, WIDTH), self.away[frame.frame_id], np.uint16)


def ids(found: coverage.Coverage) -> list[int]:
    return [one.frame_id for one in found.frames]


def test_a_wall_seen_twice_is_kept_once_and_the_first_of_equals_wins() -> None:
    frames = [frame(3, 0.0), frame(5, 0.0), frame(8, 9.0), frame(9, 9.0)]
    images = Walls({3: 2000, 5: 2000, 8: 2000, 9: 2000})
    found = coverage.select(frames, images, NO_MESH)
    assert ids(found) == [3, 8]
    assert found.share == 1.0 and found.skipped == ()


def test_a_frame_with_much_goes_before_one_with_little() -> None:
    frames = [frame(0, 0.0), frame(1, 9.0)]
    found = coverage.select(frames, Walls({0: 1000, 1: 4000}), NO_MESH, most=1)
    assert ids(found) == [1]
    assert 0.8 < found.share < 1.0


def test_choice_is_the_greedy_one() -> None:
    rng = np.random.default_rng(5)
    frames = [frame(index, float(x)) for index, x in enumerate(rng.uniform(0, 3, 12))]
    images = Walls({index: int(d) for index, d in enumerate(rng.integers(500, 4000, 12))})
    shown = {one.frame_id: set(coverage.seen_in_depth(one, images.depth(one))) for one in frames}
    expected: list[int] = []
    covered: set[int] = set()
    while len(expected) < 4:
        gains = {key: len(voxels - covered) for key, voxels in shown.items()}
        best = min(gains, key=lambda key: (-gains[key], key))
        expected.append(best)
        covered |= shown[best]
    assert ids(coverage.select(frames, images, NO_MESH, most=4)) == sorted(expected)


def test_frames_that_do_not_decode_are_left_out_with_the_reason() -> None:
    frames = [frame(index, 9.0 * index) for index in range(4)]
    images = Walls(dict.fromkeys(range(4), 2000), broken_depth=(1,), broken_color=(2,))
    found = coverage.select(frames, images, NO_MESH)
    assert ids(found) == [0, 3]
    assert {one.what: one.why for one in found.skipped} == {
        "frame 000001": "000001.png: cut short.",
        "frame 000002": "000002.jpg: cut short.",
    }


def test_candidates_are_evenly_strided() -> None:
    frames = [frame(index, 0.0) for index in range(1001)]
    chosen = coverage.candidates(frames, 160)
    assert len(chosen) <= 160
    assert {b.frame_id - a.frame_id for a, b in itertools.pairwise(chosen)} == {7}
    assert coverage.candidates(frames[:5]) == tuple(frames[:5])


def test_depth_is_back_projected_to_where_it_is() -> None:
    voxels = coverage.seen_in_depth(frame(0, 1.0), np.full((HEIGHT, WIDTH), 2050, np.uint16))
    x, y, z = ((voxels >> shift) % (1 << 21) - (1 << 20) for shift in (42, 21, 0))
    assert set(z.tolist()) == {20}
    # Pixel middles of the outermost columns and rows.
    left, right = (1.0 + 2.05 * (u - 16) / 30 for u in (0.5, 31.5))
    assert (x.min(), x.max()) == (np.floor(left / 0.1), np.floor(right / 0.1))
    assert (y.min(), y.max()) == (np.floor(2.05 * -11.5 / 30 / 0.1), np.floor(2.05 * 11.5 / 3))


@pytest.mark.parametrize("value", [0, 65535])
def test_pixels_without_a_measurement_show_nothing(value: int) -> None:
    depth = np.full((HEIGHT, WIDTH), value, np.uint16)
    assert len(coverage.seen_in_depth(frame(0, 0.0), depth)) == 0


def test_frames_without_depth_are_judged_by_the_mesh() -> None:
    x, y = np.meshgrid(np.arange(-1.5, 1.5, 0.02), np.arange(-1.2, 1.2, 0.02))
    wall = np.stack([x.ravel(), y.ravel(), np.full(x.size, 2.0)], -1)
    points = np.concatenate([wall, wall + [0, 0, 1.0], wall + [9.0, 0, 0]]).astype(np.float32)
    mesh = Mesh(points, np.zeros_like(points, np.uint8), np.zeros((0, 3), np.int32))
    frames = [frame(0, 0.0, (0, 0)), frame(1, 0.0, (0, 0)), frame(2, 9.0, (0, 0))]
    found = coverage.select(frames, Walls({}), mesh)
    assert ids(found) == [0, 2]
    z = coverage.seen_of_mesh(frames[0], points.astype(float)) % (1 << 21) - (1 << 20)
    assert set(z.tolist()) == {20}  # the wall behind is hidden
