"""Published advice, with the numbers it gives for a host of 16 GiB and one node."""

from __future__ import annotations

import pytest

from tidegate.rules_of_thumb import ADVICE, Facts, published
from tidegate.units import GIB, KIB, MIB

SIXTEEN = Facts(ram_kib=16 * GIB // KIB, default_kib=16384, nodes=1)


def numbers(facts: Facts) -> dict[str, float]:
    return {advice.name: kib / 1024 for advice, kib in published(facts)}


def test_the_spread_for_16_gib() -> None:
    mib = numbers(SIXTEEN)
    assert mib["kernel default"] == 16
    assert mib["twice the default"] == 32
    assert mib["0.4 % of RAM per node"] == pytest.approx(65, rel=0.02)
    assert mib["ten times the default"] == 160
    assert mib["512 MiB, or 1.83 GiB"] == 512
    assert mib["1,000,000 kB"] == pytest.approx(976, rel=0.001)
    assert mib["worst case, unbounded"] * MIB == pytest.approx(3.3e9, rel=0.03)
    assert max(mib.values()) / min(mib.values()) == pytest.approx(200, rel=0.05)


def test_what_depends_on_nodes_and_size() -> None:
    large = numbers(Facts(ram_kib=256 * GIB // KIB, default_kib=65536, nodes=4))
    assert large["0.4 % of RAM per node"] == pytest.approx(256 * 1024 * 0.016, rel=0.001)
    assert large["512 MiB, or 1.83 GiB"] == pytest.approx(1.83 * 1024, rel=0.001)


def test_every_piece_has_a_source() -> None:
    assert all(advice.source and advice.formula for advice in ADVICE)
    assert len({advice.name for advice in ADVICE}) == len(ADVICE)
