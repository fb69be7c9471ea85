"""The agent's build: no warning, and the same bytes from the same source and compiler wherever they lie."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tidegate.errors import Lacking
from tidegate.rig import agent_program
from tidegate.rig.tools import missing

pytestmark = pytest.mark.skipif(bool(missing(["gcc"])), reason="no gcc here")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_same_bytes_from_another_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = agent_program.agent_program()
    data = first.read_bytes()
    assert agent_program.agent_program() == first
    moved = cache / "elsewhere with a longer name"
    shutil.copytree(agent_program.SOURCES, moved)
    monkeypatch.setattr(agent_program, "SOURCES", moved)
    flags = (*agent_program.FLAGS[:-1], f"-ffile-prefix-map={moved}=agent")
    monkeypatch.setattr(agent_program, "FLAGS", flags)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "another"))
    again = agent_program.agent_program()
    assert again != first
    assert again.name == first.name
    assert again.read_bytes() == data


def test_it_is_static_and_knows_no_path_of_this_machine(cache: Path) -> None:
    built = agent_program.agent_program()
    data = built.read_bytes()
    assert built.stat().st_mode & stat.S_IXUSR
    assert str(agent_program.SOURCES).encode() not in data
    assert str(cache).encode() not in data
    assert b"/lib64/ld-linux" not in data  # no interpreter: nothing of a library is needed in the guest


def test_no_warning(tmp_path: Path) -> None:
    words = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-c", *map(str, agent_program.SOURCES.glob("*.c"))]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


def test_another_source_is_another_program(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = agent_program.agent_program()
    changed = cache / "changed"
    shutil.copytree(agent_program.SOURCES, changed)
    with (changed / "agent.c").open("a") as file:
        file.write("/* another */\n")
    monkeypatch.setattr(agent_program, "SOURCES", changed)
    assert agent_program.agent_program().name != before.name


def test_a_source_that_does_not_compile_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = cache / "broken"
    shutil.copytree(agent_program.SOURCES, broken)
    (broken / "agent.c").write_text("int main(void) { return nothing; }\n")
    monkeypatch.setattr(agent_program, "SOURCES", broken)
    with pytest.raises(Lacking, match=r"^gcc: exit 1: "):
        agent_program.agent_program()
    assert [path.name for path in (cache / "cache/tidegate/agents").iterdir() if path.name != ".lock"] == []


def test_no_compiler_is_told_with_its_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(
        Lacking, match=r"^gcc: found no such program, expected Debian's package gcc and libc6-dev"
    ):
        agent_program.agent_program()
