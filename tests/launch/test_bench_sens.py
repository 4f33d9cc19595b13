"""The benchmark of .sens files reads what it says, in rates that are rates."""

from pathlib import Path

import numpy as np
import pytest

from data_pipelines import sens
from launch import bench_sens


def test_the_file_is_one_of_scannets_sizes(tmp_path: Path) -> None:
    bench_sens.write_file(tmp_path / "a.sens", 3)
    index = sens.read_index(tmp_path / "a.sens")
    assert (len(index.poses), index.cut) == (3, "")
    assert sens.color(index, 2).shape == (968, 1296, 3)
    depth = sens.depth(index, 2)
    assert depth.shape == (480, 640)
    assert 0.02 < (depth == 0).mean() < 0.4 and 800 < np.median(depth) < 4000
    assert 3e5 < index.sizes.sum(1).mean() < 7e5


def test_rates_stand_beside_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_sens, "COLOR_SIZE", (64, 48))
    monkeypatch.setattr(bench_sens, "DEPTH_SIZE", (32, 24))
    small = bench_sens.frame(0, (64, 48), (32, 24))
    monkeypatch.setattr(bench_sens, "frame", lambda seed: small)
    rates = bench_sens.time_sens(4, 2)
    assert [one.what.split(",")[0] for one in rates] == ["index", "depth", "colour", "both"]
    assert all(one.per_s > 0 and one.bound_per_s > 0 for one in rates)
    table = bench_sens.table([bench_sens.Rate("depth", 1234.4, "zlib", 2468.8)])
    assert "| depth | 1,234 | zlib | 2,469 | 0.50 |" in table
