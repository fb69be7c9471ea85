"""The mail's long run: pages withdrawn and returned are counted, packets are not marked."""

from __future__ import annotations

from dataclasses import replace

from tidegate.designs.mail import DESIGN as MAIL

DESIGN = replace(
    MAIL,
    name="page_accounting",
    title="pages withdrawn and returned are counted in place of marks on packets",
    source='the mail of August 2005 ("In the long run, page accounting is the way to go"), and "take two" of the patch',
    about=(
        "As `mail`, but no packet says where it came from. The pages that alloc_skb withdraws are counted, and those "
        "that freeing returns; it does not matter which buffer comes back, as long as as much comes back as was "
        "withdrawn. While the count is above zero every packet is judged, whatever memory it lies in: so it was in "
        'the later "take two" of the patch, known to us from a summary of the thread. In version 5 the author notes '
        "the catch: slab pages are shared between objects, so a page of the reserve can come back late."
    ),
    mark=False,
    clone_clears=False,
    copy_clears=False,
    count_pages=True,
)
