"""The patch as first posted: every dev_alloc_skb has the flag."""

from __future__ import annotations

from dataclasses import replace

from tidegate.designs.patch import DESIGN as PATCH

DESIGN = replace(
    PATCH,
    name="patch_first",
    title="the patch as first posted: every dev_alloc_skb may use the reserve",
    source='"the patch as first posted" in the mail of August 2005; its own text is not at hand',
    about=(
        "As `patch`, but the flag is given to every caller of dev_alloc_skb instead of to the drivers that ask. "
        'The mail holds that it "is correct and solves the deadlock, except that some uses of __GFP_MEMALLOC in '
        '__dev_alloc_skb may escape into contexts where the reserve is not guaranteed to be reclaimed"; '
        '"it may be that this does not actually happen". What differs from the later patch is known from the '
        "mail only."
    ),
    driver_chooses=False,
)
