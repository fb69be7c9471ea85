"""A send pool and an acknowledge pool for each SO_MEMALLOC socket."""

from __future__ import annotations

from dataclasses import replace

from tidegate.design import Pool
from tidegate.designs.mail import DESIGN as MAIL

DESIGN = replace(
    MAIL,
    name="socket_pools",
    title="separate send and acknowledge pools for each socket, no throttle above them",
    proposed_by="Matt Mackall, as the mail quotes him",
    source="http://thunker.thunk.org/pipermail/ksummit-2005-discuss/2005-March/000242.html",
    about=(
        'The mail quotes: ""making progress" may require M acknowledgements to N packets representing a single IO. So '
        "we need separate send and acknowledge pools for each SO_MEMALLOC socket so that we don't find ourselves "
        'wedged with M-1 available mempool slots when we\'re waiting on ACKs". It objects: "This erroneously assumes '
        'that mempools throttle the block IO traffic". So there is no throttle at submission here. Of what the quoted '
        "sentences do not speak, the hunks of `mail` are lent, the softnet bypass among them, so that the pools alone "
        "are on trial; the proposal itself is known to us from the mail only."
    ),
    pool=Pool.SOCKET,
    throttle=False,
    resize=False,
)
