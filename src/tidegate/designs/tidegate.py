"""What a stock kernel can be made to do."""

from __future__ import annotations

from dataclasses import replace

from tidegate.designs.mainline import DESIGN as MAINLINE

DESIGN = replace(
    MAINLINE,
    name="tidegate",
    title="Linux 6.12 with a sized reserve, caps on block connections and a drop at ingress",
    proposed_by="this project",
    source="settings and programs on an unmodified kernel; docs/plan.md",
    about=(
        "As `mainline`; min_free_kbytes follows the block users, so that the share of it that only they can reach "
        "covers what they may withdraw; SO_SNDBUF and SO_RCVBUF on block connections bound that, which is law 3 held "
        "by a constant; and a program at ingress drops other traffic while free pages are below min, so that it does "
        "not take what the receive ring needs. No request is held back by what it costs: a stock kernel cannot do "
        "that."
    ),
    caps=True,
    early_drop=True,
    resize=True,
)
