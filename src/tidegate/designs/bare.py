"""2.6.12 as it was."""

from __future__ import annotations

from tidegate.design import Design

DESIGN = Design(
    name="bare",
    title="Linux 2.6.12 as it was",
    proposed_by="nobody: the kernel that the mail's patch is against",
    source="Linux 2.6.12.3 (July 2005)",
    about=(
        "Every receive allocation is GFP_ATOMIC, whose packet it will be; it stops above the pages that PF_MEMALLOC "
        "tasks may still take, and nothing that arrives may go there. Whoever sends most gets what is left, and "
        "packets that nobody reads keep it. The reply that would complete a write finds no buffer."
    ),
)
