"""What a reserve does to the buddy lists: mempools that pin pages, beside a watermark over the global pool.

    .venv/bin/python bench/fragmentation.py [SEEDS]

Prints the medians over SEEDS seeds (default 20, half a second each): blocks that can be had after most of the churn
is freed and all that can be moved is moved together, and buffers of order 2 that the reserve gives while memory is
full. Then, for one seed, the free blocks by order over time for a watermark and for mempools made under load.
Virtual throughout: the same seeds print the same.
"""

from __future__ import annotations

import sys

from tidegate.design import Kernel
from tidegate.sim.fragmentation import Kind, compare_fragmentation, fragmentation, fragmentation_text


def over_time(kind: Kind) -> str:
    """Free blocks by order at each moment of one run on 2.6.12."""
    run = fragmentation(kind=kind, kernel=Kernel.V2_6_12, long_lived_percent=0, seed=1)
    lines = [f"{kind.value}, 2.6.12, seed 1: free blocks of order 0, 1, 2, ..."]
    lines += [
        f"  {sample.moment:<10} {sample.batches:>4}  {' '.join(f'{blocks:>5}' for blocks in sample.available)}"
        for sample in run.samples
    ]
    return "\n".join(lines)


def main(words: list[str]) -> int:
    """The table, then the two runs."""
    print(fragmentation_text(compare_fragmentation(range(int(words[0]) if words else 20))))
    for kind in (Kind.GLOBAL, Kind.LOAD):
        print(over_time(kind))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
