"""The page size of hosts that are only known by their files."""

from __future__ import annotations

import pytest

from tidegate.host.pages import page_bytes


@pytest.mark.parametrize(
    ("machine", "total_kib", "managed", "size"),
    [
        ("x86_64", 1_000_000, 250_000, 4096),
        ("aarch64", 1_000_000, 15_625, 65536),
        ("aarch64", 1_000_000, 62_500, 16384),
        ("aarch64", 1_000_000, 250_000, 4096),
        ("x86_64", 24_684_092, 2_546_229, 4096),  # memory that a balloon has taken
        ("aarch64", 24_684_092, 2_546_229, 4096),
        ("aarch64", 0, 0, 4096),
        ("", 1_000_000, 15_625, 65536),
        ("x86_64", 1_000_000, 15_625, 4096),
    ],
)
def test_the_size_of_a_page(machine: str, total_kib: int, managed: int, size: int) -> None:
    halves = (managed // 2, managed - managed // 2)
    zones = "".join(f"Node 0, zone DMA\n  pages free 1\n        managed  {half}\n" for half in halves)
    meminfo = f"MemTotal:       {total_kib} kB\nMemFree: 1 kB\n"
    assert page_bytes(machine, meminfo, zones) == size
