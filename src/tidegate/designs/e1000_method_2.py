"""The other way for a driver with a ring of buffers: the reserve only for a ring that has run dry."""

from __future__ import annotations

from dataclasses import replace

from tidegate.design import Refill
from tidegate.designs.mail import DESIGN as MAIL

DESIGN = replace(
    MAIL,
    name="e1000_method_2",
    title="as the mail, with a ring that is refilled from the reserve only when it is empty",
    source="the thread of August 2005: the second of two methods for e1000; the mail relies on the first",
    about=(
        "As `mail`, but a driver that keeps a ring of buffers does not refill each slot from the reserve as soon as "
        "the ordinary allocation fails (method 1, for which the whole ring is counted in the reserve). It lets the "
        "ring run down and takes one buffer from the reserve when none is left. The reserve then holds one buffer "
        "for the ring in place of all, and the ring is as long as one packet while memory is short. Known to us from "
        "a summary of the thread."
    ),
    refill=Refill.EMPTY,
)
