"""docs/drivers.md comes from the table and is current."""

from __future__ import annotations

from pathlib import Path

from tidegate.drivers import DRIVERS
from tidegate.report.docs_drivers import drivers_markdown

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "drivers.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == drivers_markdown(), "make docs writes it anew"


def test_every_driver_and_every_name_is_on_it() -> None:
    page = drivers_markdown()
    for row in DRIVERS:
        assert f"| `{row.name}` |" in page
        assert all(f"`{name}`" in page for name in (*row.aliases, *row.functions))
