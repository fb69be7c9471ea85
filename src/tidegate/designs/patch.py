"""The hunks of the mail as posted, with their intent."""

from __future__ import annotations

from tidegate.design import Design

DESIGN = Design(
    name="patch",
    title="the hunks of the mail, as they were meant",
    proposed_by="Daniel Phillips",
    source="the mail of August 2005, the diff against 2.6.12.3 at its end",
    about=(
        "A receive buffer that finds no ordinary memory is taken from below the watermarks, if the driver asked for "
        "that, and is marked. A marked packet skips the softnet queue and is dropped in tcp_v4_rcv unless its socket "
        "is flagged. Clones and copies lose the mark. The slips of the posted text (an undefined variable, a mark "
        "that nothing sets) are read as what they were meant to be. There is no throttle in the hunks, though the "
        "text calls it indispensable, and only TCP over IPv4 tests the mark."
    ),
    gfp_memalloc=True,
    ordinary_first=True,
    driver_chooses=True,
    mark=True,
    clone_clears=True,
    copy_clears=True,
    bypass=True,
    sock_memalloc=True,
    discard=True,
)
