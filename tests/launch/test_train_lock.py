"""One run at a time in a folder."""

from pathlib import Path

import pytest

from launch import train


def test_a_folder_in_which_a_run_goes_on_is_refused_to_another(tmp_path: Path) -> None:
    with train.held(tmp_path / "run"):
        again = train.held(tmp_path / "run")
        with pytest.raises(ValueError, match=r"run: another process trains here"), again:
            pass
        with train.held(tmp_path / "other"):
            pass
    with train.held(tmp_path / "run"):
        pass
