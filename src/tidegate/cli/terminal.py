"""What the place that output goes to can show."""

from __future__ import annotations

import os
from typing import TextIO


def wants_colour(stream: TextIO) -> bool:
    """Colour only on a terminal that knows it, and never under NO_COLOR (no-color.org: set and not empty)."""
    return (
        stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in {"", "dumb"}
    )
