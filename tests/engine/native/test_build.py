"""The package with and without its compiled module."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from headway.engine import native

ROOT = Path(__file__).parents[3]
ASK = "from headway.engine import native; print(native.why_not()); print(native.available())"


def python(code: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    ).stdout


def test_a_missing_module_is_told_in_one_line() -> None:
    reason, available = python(f"import sys; sys.modules['headway.engine._native'] = None; {ASK}").splitlines()
    assert reason.startswith("Headway was installed without compiled kernels")
    assert available == "()"


def test_a_module_that_does_not_load_is_told_in_one_line(tmp_path: Path) -> None:
    package = tmp_path / "headway"
    shutil.copytree(ROOT / "src/headway/engine", package / "engine", ignore=shutil.ignore_patterns("_native.*.so"))
    (package / "__init__.py").touch()
    (package / "engine" / "_native.py").write_text("raise ImportError('built for\\nanother Python')")
    reason, available = python(ASK, PYTHONPATH=str(tmp_path)).splitlines()
    assert reason == "the compiled kernels can't be loaded: built for another Python"
    assert available == "()"


@pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))
def test_kernels_are_chosen_by_the_environment() -> None:
    ask = "from headway.engine import native; print(native.choose(), native.choose('portable'))"
    assert python(ask, HEADWAY_KERNELS="portable").split() == ["portable", "portable"]
    assert python(ask, HEADWAY_KERNELS="").split() == [native.available()[0], "portable"]


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("scikit_build_core") is None or shutil.which("cmake") is None, reason="needs scikit-build-core and cmake"
)
def test_without_a_compiler_the_package_has_everything_else(tmp_path: Path) -> None:
    project, wheels = tmp_path / "project", tmp_path / "wheels"
    ignored = shutil.ignore_patterns("__pycache__", "_native.*.so", "CMakeCache.txt", "CMakeFiles", "*.ninja", "*.a")
    for name in ("src/headway", "native"):
        shutil.copytree(ROOT / name, project / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-q"]
    environment = {**os.environ, "CC": "/bin/false", "CXX": "/bin/false"}
    subprocess.run([*command, "-w", str(wheels), str(project)], check=True, env=environment, capture_output=True)
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("headway/")}
        archive.extractall(tmp_path / "installed")
    sources = project / "src"
    assert packed == {str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()}
    reason, _ = python(ASK, PYTHONPATH=str(tmp_path / "installed")).splitlines()
    assert reason == "Headway was installed without compiled kernels: no C++ compiler, or one that failed"
