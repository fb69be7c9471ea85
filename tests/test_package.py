"""What a wheel holds, and that it works where only the wheel is."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tidegate
from tidegate.bundled_cases import case_names, case_path, cases_directory
from tidegate.host.bundled import bundled_directory, bundled_names, bundled_record

TOP = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("no hatchling here")
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    subprocess.run([*command, str(directory), str(wheel)], check=True, capture_output=True)
    return directory


def test_the_version_is_the_one_in_the_source(wheel: Path) -> None:
    assert wheel.name == f"tidegate-{tidegate.__version__}-py3-none-any.whl"


def test_every_module_and_data_file_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    source = TOP / "src"
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert {file for file in files if "__pycache__" not in file} <= held
    assert {f"tidegate/_hosts/{path.name}" for path in (TOP / "hosts").glob("*.tar.xz")} <= held
    cases = TOP / "cases"
    kept = {str(path.relative_to(cases)) for path in cases.rglob("*") if path.is_file()}
    assert {f"tidegate/_cases/{name}" for name in kept} <= held
    assert "tidegate/py.typed" in held
    tops = {name.split("/")[0] for name in held}
    assert tops == {"tidegate", f"tidegate-{tidegate.__version__}.dist-info"}


def test_the_source_tree_finds_its_own_records() -> None:
    assert bundled_directory() == TOP / "hosts"
    assert "virtio-nbd-swap" in bundled_names()
    assert all(bundled_record(name).is_file() for name in bundled_names())


def test_the_source_tree_finds_its_own_cases() -> None:
    assert cases_directory() == TOP / "cases"
    assert case_names()
    assert all(case_path(name).is_file() for name in case_names())


def test_an_installed_wheel_runs_and_finds_its_data(site: Path, tmp_path: Path) -> None:
    program = (
        "import tidegate.host.bundled as b, tidegate.bundled_cases as k, tidegate.cli as c, tidegate\n"
        "print(tidegate.__file__); print(*b.bundled_names()); print(*k.case_names())\n"
        "c.main(['--version'])"
    )
    env = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    where, names, cases, version = done.stdout.splitlines()
    assert where == str(site / "tidegate" / "__init__.py")
    assert names.split() == bundled_names()
    assert cases.split() == case_names()
    assert version == f"tidegate {tidegate.__version__}"
