"""A bare name of a bundled host stands for it, and a file of that name goes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.errors import BadInput
from tidegate.host.bundled import bundled_directory, bundled_record, recorded_host

NAME = "virtio-nbd-swap"


def test_a_bare_name_is_the_bundled_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recorded_host(NAME) == bundled_directory() / f"{NAME}.tar.xz"


@pytest.mark.parametrize("typed", ["no-such-host", f"./{NAME}", f"{NAME}.tar.xz", f"x/{NAME}", "", ".", ".."])
def test_anything_else_is_a_path(typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recorded_host(typed) == Path(typed)


def test_a_file_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    assert recorded_host(NAME) == Path(NAME)


def test_an_unknown_host_names_the_known_ones() -> None:
    with pytest.raises(BadInput, match=NAME):
        bundled_record("no-such-host")
