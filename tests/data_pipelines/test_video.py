"""Frames of a video by their number, in any order."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from data_pipelines import video
from data_pipelines.scan import ScanError

COUNT = 70  # so that there are three keyframes


def picture(number: int) -> np.ndarray:
    """Plain, brighter from frame to frame, with a stripe that moves."""
    pixels = np.full((48, 64, 3), 20 + 3 * number, np.uint8)
    pixels[:, number % 64] = 255
    return pixels


def number_of(pixels: np.ndarray) -> int:
    return round((float(np.median(pixels)) - 20) / 3)


@pytest.fixture(scope="module", params=["rgb.mkv", "rgb.mp4"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / request.param
    video.write_video(path, map(picture, range(COUNT)))
    return path


def test_index_knows_size_and_keyframes_without_decoding(path: Path) -> None:
    index = video.read_index(path)
    assert (index.size, len(index.times), index.keyframes[0]) == ((64, 48), COUNT, 0)
    assert len(index.keyframes) >= 3 and (np.diff(index.times) > 0).all()


@pytest.mark.parametrize("step", [1, 7, 31])
def test_frames_forward(path: Path, step: int) -> None:
    one = video.Video(video.read_index(path))
    rows = range(0, COUNT, step)
    assert [number_of(one.frame(row)) for row in rows] == list(rows)


def test_frames_in_any_order(path: Path) -> None:
    one = video.Video(video.read_index(path))
    rows = [int(row) for row in np.random.default_rng(0).integers(0, COUNT, 25)]
    rows += [COUNT - 1, 0, 30, 29, 30, 30, 59, 60, 61]
    assert [number_of(one.frame(row)) for row in rows] == rows


def test_frames_in_order_are_decoded_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = video.Video(video.read_index(path))
    seeks = []
    go_to = video.Video._go_to

    def watch(self: video.Video, row: int) -> None:
        before = self._decoded
        go_to(self, row)
        seeks.extend([row] if self._decoded is not before else [])

    monkeypatch.setattr(video.Video, "_go_to", watch)
    for row in range(COUNT):
        one.frame(row)
    assert seeks == [0]
    one.frame(65)
    one.frame(68)
    assert seeks == [0, 65]


def test_copy_for_another_process_decodes_too(path: Path) -> None:
    one = video.Video(video.read_index(path))
    one.frame(3)
    assert number_of(pickle.loads(pickle.dumps(one)).frame(40)) == 40


def test_video_that_is_cut_short_has_fewer_frames_or_none(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    part = tmp_path / path.name
    part.write_bytes(content[: len(content) // 2])
    if path.suffix == ".mp4":  # its index is at the end
        with pytest.raises(ScanError, match=r"rgb\.mp4: expected a whole video"):
            video.read_index(part)
    else:
        assert 0 < len(video.read_index(part).times) < COUNT


def test_broken_and_missing_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="expected a video, found none"):
        video.read_index(tmp_path / "rgb.mkv")
    for content in (b"", b"no video" * 100):
        (tmp_path / "rgb.mkv").write_bytes(content)
        with pytest.raises(ScanError, match=r"rgb\.mkv: expected"):
            video.read_index(tmp_path / "rgb.mkv")


def test_frames_that_are_not_there_are_refused(path: Path) -> None:
    one = video.Video(video.read_index(path))
    for row in (-1, COUNT):
        with pytest.raises(IndexError, match=f"expected a frame below {COUNT}"):
            one.frame(row)


def test_file_that_changed_since_is_named(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    one = video.Video(video.read_index(copy))
    video.write_video(copy, map(picture, range(5)))
    with pytest.raises(ScanError, match="expected frame 60 to decode"):
        one.frame(60)
    assert number_of(one.frame(2)) == 2


def test_odd_sizes_have_colours_of_full_resolution(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).repeat(5, 0).repeat(5, 1)
    video.write_video(tmp_path / "rgb.mkv", [pixels.astype(np.uint8)])
    one = video.Video(video.read_index(tmp_path / "rgb.mkv"))
    assert one.index.size == (35, 45)
    assert np.abs(one.frame(0).astype(int) - pixels).mean() < 8
