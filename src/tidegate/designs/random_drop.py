"""A coin for every packet while the reserve is used."""

from __future__ import annotations

from dataclasses import replace

from tidegate.designs.mail import DESIGN as MAIL

DESIGN = replace(
    MAIL,
    name="random_drop",
    title="while the reserve is used, packets are dropped at random",
    proposed_by="Andrea Arcangeli, as the mail answers him",
    source="http://thunker.thunk.org/pipermail/ksummit-2005-discuss/2005-March/000200.html",
    about=(
        "Nothing asks for the socket: while the reserve is used, half of all packets are dropped, whosever they are. "
        'The mail: "But there is no need to be random. Short of actually overlowing the input ring buffer, we can be '
        'precise about accepting all block IO packets and dropping non-blockio traffic as necessary." The share is '
        "ours, and all else is lent from `mail`, throttle and bypass included, so that the coin alone is on trial; the "
        "proposal itself is known to us from the mail only."
    ),
    discard=False,
    discard_everywhere=False,
    coin_percent=50,
)
