"""Files are there whole or not at all."""

import errno
from pathlib import Path

import pytest

from spatialevo_jax.files import whole_file


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "below" / "page.html"
    with whole_file(path) as part:
        part.write_text("half")
        assert not path.exists() and part.parent == path.parent
        part.write_text("whole")
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_the_file_before_it(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")
    with pytest.raises(OSError, match="full"), whole_file(path) as part:
        part.write_text("half")
        raise OSError("the disk is full")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_says_which_file_could_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with pytest.raises(OSError, match=r"page\.html"), whole_file(path):
        raise OSError(errno.ENOSPC, "No space left on device")  # as a write raises it: of no file


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with whole_file(path) as part:
        part.write_text("one")
        left = part
    left.write_text("of a process that was killed, much longer")
    with whole_file(path) as part:
        part.write_text("two")
    assert path.read_text() == "two" and list(tmp_path.iterdir()) == [path]
