"""The patch, and what the text of the mail asks for beside it."""

from __future__ import annotations

from dataclasses import replace

from tidegate.designs.patch import DESIGN as PATCH

DESIGN = replace(
    PATCH,
    name="mail",
    title="the patch, and what the mail's text asks for: throttle, resize, every protocol, acknowledgements",
    source="the mail of August 2005, hunks and text",
    about=(
        'As `patch`; and the block driver "must pre-account any per-request resources and block until sufficient '
        'resources become available", which "would include both space for transmit and acknowledge"; the reserve is '
        'resized "as users are loaded and unloaded"; all non-block traffic is dropped as necessary, which in the '
        "hunks only tcp_v4_rcv does and here every protocol; and the acknowledgements that we send may use the "
        "reserve. The patch leaves all four to others; they are ours, built to what the text says."
    ),
    discard_everywhere=True,
    memalloc_acks=True,
    throttle=True,
    resize=True,
)
