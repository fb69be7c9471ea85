"""Published advice on vm.min_free_kbytes, as data with its sources.

None of it knows rings, connections, queue depths or CPUs; for one host the advice differs by a factor of two
hundred. `plan` prints it beside the computed number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tidegate.units import GIB, KIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What published advice looks at. Sizes in kB."""

    ram_kib: int
    default_kib: int  # the kernel's own default without huge pages
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One piece of advice."""

    name: str
    formula: str  # for people
    source: str
    min_free_kib: Callable[[Facts], int]


def _storagegrid(facts: Facts) -> int:
    return 512 * MIB // KIB if facts.ram_kib <= 48 * GIB // KIB else int(1.83 * GIB) // KIB


ADVICE: tuple[Advice, ...] = (
    Advice(
        name="kernel default",
        formula="sqrt(16 x lowmem kB), 128 kB to 256 MiB",
        source="mm/page_alloc.c:calculate_min_free_kbytes, ee8eb9a5fe86, 8beeae86b8e1",
        min_free_kib=lambda facts: facts.default_kib,
    ),
    Advice(
        name="twice the default",
        formula="2 x kernel default",
        source="Linux Test Project, min_free_kbytes test",
        min_free_kib=lambda facts: 2 * facts.default_kib,
    ),
    Advice(
        name="ten times the default",
        formula="10 x kernel default",
        source="Red Hat KB 4085851",
        min_free_kib=lambda facts: 10 * facts.default_kib,
    ),
    Advice(
        name="0.4 % of RAM per node",
        formula="0.004 x RAM x NUMA nodes",
        source="Oracle, ORA-27301/ORA-27302",
        min_free_kib=lambda facts: facts.ram_kib * facts.nodes * 4 // 1000,
    ),
    Advice(
        name="512 MiB, or 1.83 GiB",
        formula="524288 kB up to 48 GiB of RAM, else 1.83 GiB",
        source="NetApp StorageGRID",
        min_free_kib=_storagegrid,
    ),
    Advice(
        name="1,000,000 kB",
        formula="1000000 kB",
        source="Mellanox tuning, as copied by MinIO",
        min_free_kib=lambda _: 1_000_000,
    ),
    Advice(
        name="1 GiB",
        formula="1048576 kB",
        source="Oracle Exadata (tuananh0788/Exadata#38)",
        min_free_kib=lambda _: GIB // KIB,
    ),
    Advice(
        name="worst case, unbounded",
        formula="3.3 GB, against 40 MB once the terms are bounded",
        source="SUSE KB 000017494",
        min_free_kib=lambda _: 3_300_000,
    ),
)

# Too much: "5-10 % of RAM: immediate OOM" (Red Hat Enterprise Linux 6 tuning guide).
TOO_MUCH_PERCENT = 5


def published(facts: Facts) -> tuple[tuple[Advice, int], ...]:
    """Every advice with its number for this host, in kB."""
    return tuple((advice, advice.min_free_kib(facts)) for advice in ADVICE)
