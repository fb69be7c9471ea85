"""The words of a trial: what one boot of a real kernel showed."""

from __future__ import annotations

from tidegate.report.terms.term import Term

TERMS = (
    Term(
        id="WEDGED",
        kind="verdict",
        title="a trial: no step any more, long after the storm",
        meaning=(
            "No page was written or read back by the load for 15 s of the guest's time, the storm was ended, and two "
            "looks (SysRq-w), 8 s and 15 s after that, show the same tasks waiting in the same circle; or no step came "
            "for 130 s, longer than TCP's longest back-off (TCP_RTO_MAX, 120 s). With OOM and PANIC it is a failure. "
            "Exit code 1, or 0 where the case expects it of most trials."
        ),
        related=("STALLED", "SURVIVED", "OOM", "PANIC", "margin"),
    ),
    Term(
        id="STALLED",
        kind="verdict",
        title="a trial: stood still for 15 s or more, and recovered",
        meaning=(
            "The load made no step for at least 15 s of the guest's time, and finished all the same, by itself or when "
            "the storm was ended. No failure, and no survival either where SURVIVED is expected."
        ),
        related=("WEDGED", "SURVIVED"),
    ),
    Term(
        id="SURVIVED",
        kind="verdict",
        title="a trial: all pages written, read back and found equal",
        meaning=(
            "And nothing stood still for 15 s. It speaks of one boot of one kernel under one storm; how near it was "
            "says the margin."
        ),
        related=("WEDGED", "STALLED", "margin"),
    ),
    Term(
        id="OOM",
        kind="verdict",
        title="a trial: the OOM killer ended a program",
        meaning="oom_kill of /proc/vmstat grew. A failure: there was a device to swap to.",
        related=("WEDGED", "PANIC"),
    ),
    Term(
        id="PANIC",
        kind="verdict",
        title="a trial: the kernel gave up",
        meaning="Its own words are in the reason; 'System is deadlocked on memory' is one of them. A failure.",
        related=("WEDGED", "OOM"),
    ),
    Term(
        id="INCONCLUSIVE",
        kind="verdict",
        title="a trial: what was to be tried was not there, or it was cut",
        meaning=(
            "No packet of the storm was ever held in the guest, a setting of the arm was refused, an ablation showed "
            "no effect, or the load was only slow. Not counted in n. Exit code 3 where nothing else was counted."
        ),
        related=("LOST",),
    ),
    Term(
        id="LOST",
        kind="verdict",
        title="a trial: emulator, server or boot failed, and again at the second try",
        meaning="Says nothing about the kernel, and is not counted in n.",
        related=("INCONCLUSIVE",),
    ),
    Term(
        id="margin",
        kind="number",
        title="the least free pages above the point where an ordinary atomic allocation ends",
        meaning=(
            "In the best zone, at the worst moment of a trial: free pages less 3/8 of min (without boost) less "
            "lowmem_reserve, read from the guest's memory from outside about a thousand times a second. At 0 and below "
            "the next GFP_ATOMIC request of order 0 fails in every zone, and who survived there was lucky."
        ),
        functions=("mm/page_alloc.c:__zone_watermark_ok", "mm/page_alloc.c:zone_watermark_fast"),
        related=("SURVIVED", "WEDGED", "vm.min_free_kbytes"),
    ),
)
