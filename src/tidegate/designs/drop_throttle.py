"""Dropping at the socket is trusted to throttle."""

from __future__ import annotations

from dataclasses import replace

from tidegate.designs.mail import DESIGN as MAIL

DESIGN = replace(
    MAIL,
    name="drop_throttle",
    title="dropping the packets of others is trusted to throttle",
    proposed_by="Rik van Riel, as the mail answers him",
    source="http://thunker.thunk.org/pipermail/ksummit-2005-discuss/2005-March/000218.html",
    about=(
        "A socket flag (SO_MEMALLOC, which the mail settled on too), a reserve, and the discard of packets for other "
        'sockets; submission is not held back. The mail: "the conclusion that we can throttle here by dropping '
        "non-blockio packets is not right: the packets that we got from reserve still can live an arbitrary time in "
        "the protocol stack, so we could still exhaust the reserve and be back to the same bad old deadlock "
        'conditions". Of step 4 the mail says only that it "veers off course: out of order does not matter"; it is '
        "read here as dropping a marked segment that is not the next one, and that reading is ours. All else is lent "
        "from `mail`, the softnet bypass included; the proposal itself is known to us from the mail only."
    ),
    throttle=False,
    resize=False,
    drop_out_of_order=True,
)
