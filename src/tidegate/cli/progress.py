"""What is being done, on one line of a terminal; nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done on stderr, if that is a terminal; wiped at the end."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return

    def tell(what: str) -> None:
        sys.stderr.write(f"\r\x1b[K{what[:70]}")
        sys.stderr.flush()

    try:
        yield tell
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
