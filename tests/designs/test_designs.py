"""The designs: one file each, found without a list, and each what its text says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tidegate import designs
from tidegate.design import HUNKS, Design, Kernel, Pool, on
from tidegate.designs import BASELINE, DESIGNS, design
from tidegate.errors import Usage

TOP = Path(__file__).resolve().parents[2]
FOLDER = TOP / "src/tidegate/designs"
THE_TWELVE = {
    "bare",
    "drop_throttle",
    "mail",
    "mainline",
    "mempool",
    "page_accounting",
    "patch",
    "patch_first",
    "random_drop",
    "socket_pools",
    "softnet_throttled",
    "tidegate",
}  # fmt: skip - a thirteenth is one file, and no line here


def differs(one: Design, other: Design) -> set[str]:
    """The fields in which they differ, those that only say something apart."""
    said = {"name", "title", "proposed_by", "source", "about"}
    names = {field.name for field in fields(Design)} - said
    return {name for name in names if getattr(one, name) != getattr(other, name)}


def test_every_file_is_a_design_and_the_baseline_stands_first() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"} - designs.NO_DESIGNS
    assert set(DESIGNS) == files
    assert list(DESIGNS) == [BASELINE, *sorted(files - {BASELINE})]


def test_the_mail_and_its_rivals_are_there() -> None:
    assert set(DESIGNS) >= THE_TWELVE


@pytest.mark.parametrize("one", DESIGNS.values(), ids=lambda one: one.name)
def test_a_design_says_what_it_is(one: Design) -> None:
    assert design(one.name) is one
    assert all((one.title, one.proposed_by, one.source))
    assert "\n" not in one.title
    assert one.about.endswith((".", '".', '."'))
    assert one.about.count('"') % 2 == 0  # a quotation that ends


def test_the_texts_of_two_designs_are_not_the_same() -> None:
    for field in ("title", "about"):
        assert len({getattr(one, field) for one in DESIGNS.values()}) == len(DESIGNS), field


@pytest.mark.parametrize(
    ("name", "hint"), [("mial", "did you mean mail?"), ("Tide_gate", "tidegate?"), ("zz", "there are bare, ")]
)
def test_an_unknown_name_is_met_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(Usage, match=re.escape(hint)):
        design(name)


# What each is, against the one it is built on: the mail's sentences, as switches.
AGAINST = [
    ("patch", "bare", set(HUNKS)),
    ("patch_first", "patch", {"driver_chooses"}),
    ("mail", "patch", {"discard_everywhere", "memalloc_acks", "throttle", "resize"}),
    ("page_accounting", "mail", {"count_pages", "mark", "clone_clears", "copy_clears"}),
    ("mempool", "mail", {"pool"}),
    ("socket_pools", "mail", {"pool", "throttle", "resize"}),
    ("random_drop", "mail", {"discard", "discard_everywhere", "coin_percent"}),
    ("drop_throttle", "mail", {"throttle", "resize", "drop_out_of_order"}),
    ("softnet_throttled", "mail", {"bypass", "softnet_throttle"}),
    ("tidegate", "mainline", {"caps", "early_drop", "resize"}),
]


@pytest.mark.parametrize(("name", "other", "expected"), AGAINST)
def test_what_a_design_changes(name: str, other: str, expected: set[str]) -> None:
    assert differs(design(name), design(other)) == expected


def test_each_is_held_against_another() -> None:
    assert {name for name, _, _ in AGAINST} | {"bare", "mainline"} == THE_TWELVE


def test_the_baseline_changes_nothing() -> None:
    assert on(design(BASELINE)) == ()
    assert (design(BASELINE).kernel, design(BASELINE).pool) == (Kernel.V2_6_12, Pool.GLOBAL)


def test_mainline_has_the_mark_and_no_bookkeeping() -> None:
    one = design("mainline")
    assert one.kernel is Kernel.V6_12
    # __skb_clone() copies the mark; __copy_skb_header() does not, as the bit lies outside of what it copies
    assert (one.clone_clears, one.copy_clears) == (False, True)
    assert not any((one.bypass, one.throttle, one.resize, one.count_pages, one.driver_chooses))
    assert all((one.pfmemalloc, one.discard_everywhere, one.memalloc_acks, one.direct_throttle))


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files belong to the package while the test runs."""
    monkeypatch.setattr(designs, "__path__", [*designs.__path__, str(tmp_path)])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("tidegate.designs."):
            del sys.modules[name]
            monkeypatch.delattr(designs, name.rpartition(".")[2], raising=False)


def example() -> tuple[str, str]:
    """File and text of the design that CONTRIBUTING.md shows."""
    text = (TOP / "CONTRIBUTING.md").read_text()
    shown: list[tuple[str, str]] = re.findall(
        r"```python\n# src/tidegate/designs/(\w+\.py)\n(.*?)```", text, re.DOTALL
    )
    (one,) = shown
    return one


def test_adding_one_file_adds_a_design(room: Path) -> None:
    name, body = example()
    (room / name).write_text(body)
    found = designs._read()
    added = Path(name).stem
    assert set(found) - set(DESIGNS) == {added}
    assert list(found) == [BASELINE, *sorted(set(found) - {BASELINE})]
    assert differs(found[added], found["patch"]) == {"discard_everywhere"}


def test_a_file_whose_design_has_another_name_is_our_mistake(room: Path) -> None:
    name, body = example()
    (room / f"other_{name}").write_text(body)
    with pytest.raises(AssertionError, match=f"other_{name} holds a design called {Path(name).stem}"):
        designs._read()


def test_a_file_without_a_design_is_our_mistake(room: Path) -> None:
    (room / "forgotten.py").write_text("")
    with pytest.raises(AttributeError, match="DESIGN"):
        designs._read()


def test_reading_them_imports_no_judge() -> None:
    code = "import sys, tidegate.designs; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name.split(".")[1] for name in done.stdout.split() if name.startswith("tidegate.")}
    assert ours == {"design", "designs", "errors"}
    assert "msgspec" not in done.stdout
