"""Imports point down only: launch -> spatialevo_jax, data_pipelines -> geometry_jax -> jax."""

import ast
import sys
from pathlib import Path

import pytest

ALLOWED = {
    "geometry_jax": set[str](),
    "spatialevo_jax": {"geometry_jax"},
    "data_pipelines": {"geometry_jax"},
    "launch": {"geometry_jax", "spatialevo_jax", "data_pipelines"},
}
# geometry_jax knows no model, dataset, text or training: these are all it may ask for.
GEOMETRY_LIBRARIES = {"jax", "numpy", "jaxtyping", "geometry_jax", "PIL"}


def imported_packages(path: Path) -> set[str]:
    """First names of all modules that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute, got a relative one."
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_down_only(repository: Path, package: str) -> None:
    for path in sorted((repository / package).rglob("*.py")):
        upward = imported_packages(path) & ({*ALLOWED, "tests", "configs"} - ALLOWED[package])
        assert upward <= {package}, f"{path.relative_to(repository)} imports {sorted(upward)}"


def test_geometry_needs_arrays_only(repository: Path) -> None:
    standard = set(sys.stdlib_module_names)
    for path in sorted((repository / "geometry_jax").rglob("*.py")):
        foreign = imported_packages(path) - standard - GEOMETRY_LIBRARIES
        assert not foreign, f"{path.relative_to(repository)} imports {sorted(foreign)}"


def test_torch_is_asked_for_by_tests_and_the_baseline_of_a_benchmark_only(
    repository: Path,
) -> None:
    asking = {
        str(path.relative_to(repository))
        for package in ALLOWED
        for path in (repository / package).rglob("*.py")
        if "torch" in imported_packages(path)
    }
    assert asking == {"launch/bench_torch.py"}
