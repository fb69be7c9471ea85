"""tools/compare_object_code.py: what gcc makes of the mail's two claims about object code, and that it can differ."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools/compare_object_code.py"
GCC, OBJDUMP = shutil.which("gcc"), shutil.which("objdump")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_object_code", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


compare_object_code = _load()


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | env)


def words_of(printed: str) -> dict[str, list[str]]:
    """Pair -> what its columns say."""
    lines = printed.splitlines()[4:]
    cells = [[cell for cell in line.split("  ") if cell] for line in lines]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in cells}


@pytest.fixture(scope="module")
def printed() -> str:
    if GCC is None or OBJDUMP is None:
        pytest.skip("no gcc or no objdump here")
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_stack_of_inline_functions_costs_nothing(printed: str) -> None:
    words = words_of(printed)
    assert words["the flag spelled out > dev_memalloc_skb()"] == ["same"] * 4
    assert words["the same, three callers in a file"] == ["same"] * 4
    assert words["a caller that does not ask: 2.6.12 > the patch"] == ["same"] * 4


def test_a_caller_that_asks_pays_for_the_second_try(printed: str) -> None:
    for name in (
        "a caller that asks: 2.6.12 > the patch",
        "a caller with any mask: 2.6.12 > the patch",
    ):
        cells = words_of(printed)[name]
        assert all(int(cell) > 0 for cell in cells)


def test_the_expression_costs_nothing_where_the_mask_is_known(printed: str) -> None:
    if not printed.startswith("gcc 12."):
        pytest.skip(f"tried with gcc 12; another may choose otherwise, and here is {printed.splitlines()[0]}")
    rows = {name: cells for name, cells in words_of(printed).items() if name.startswith("known mask: ")}
    assert len(rows) == len(compare_object_code.SIDE_EFFECTS)
    assert set(map(tuple, rows.values())) == {("same",) * 4}


def test_the_controls_come_out_as_they_must(printed: str) -> None:
    words = words_of(printed)
    assert words["control: posted > posted, a variable renamed"] == ["same"] * 4
    assert "same" not in words["control: reserve first > posted"]


def test_two_runs_print_the_same(printed: str) -> None:
    assert run().stdout == printed


def test_a_control_that_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if GCC is None or OBJDUMP is None:
        pytest.skip("no gcc or no objdump here")
    tool = compare_object_code
    form = tool.POSTED + tool.ANY_MASK
    wrong = tool.Pair(name="control: wrong", left=form, right=form, same=False)
    monkeypatch.setattr(tool, "PAIRS", (wrong,))
    assert tool.main([]) == 1
    assert capsys.readouterr().err == "control: wrong: did not come out as it must\n"


@pytest.mark.parametrize(
    ("left", "right", "word"),
    [
        ((9, ("a",)), (9, ("a",)), "same"),
        ((9, ("a",)), (9, ("b",)), "+0"),
        ((9, ("a",)), (12, ("a", "b")), "+3"),
        ((9, ("a", "b")), (7, ("a",)), "-2"),
    ],
)
def test_the_words_of_the_table(
    left: tuple[int, tuple[str]], right: tuple[int, tuple[str]], word: str
) -> None:
    tool = compare_object_code
    codes = [tool.Code(text_bytes=size, instructions=lines) for size, lines in (left, right)]
    pair = tool.Pair(name="x", left="", right="")
    assert tool.Outcome(pair=pair, left=codes[0], right=codes[1]).word == word


def test_without_gcc_it_is_one_line(tmp_path: Path) -> None:
    done = run(PATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (5, "", "compare_object_code: no gcc here\n")


def test_without_objdump_it_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gcc").write_text("#!/bin/sh\n")
    (tmp_path / "gcc").chmod(0o755)
    done = run(PATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (5, "compare_object_code: no objdump here\n")


def test_an_option_that_gcc_does_not_know_is_one_line() -> None:
    if GCC is None or OBJDUMP is None:
        pytest.skip("no gcc or no objdump here")
    done = run("-mno-such-thing")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "-mno-such-thing" in done.stderr
