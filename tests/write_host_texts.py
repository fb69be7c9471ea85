"""Writes hosts/NAME.txt anew, as `check` prints it: `python -m tests.write_host_texts`, then read the diff."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from unittest import mock

from tidegate.cli import main

HOSTS = Path(__file__).resolve().parents[1] / "hosts"


def records() -> list[Path]:
    """The recorded hosts of the tree."""
    return sorted(HOSTS.glob("*.tar.xz"))


def text_path(record: Path) -> Path:
    """Where the text for a record stands."""
    return record.with_name(record.name.removesuffix(".tar.xz") + ".txt")


def check_output(record: Path) -> str:
    """What `tidegate check --host RECORD` prints off a terminal."""
    out = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}), contextlib.redirect_stdout(out):
        main(["check", "--host", str(record)])
    return out.getvalue()


if __name__ == "__main__":
    for one in records():
        text_path(one).write_text(check_output(one), encoding="utf-8")
