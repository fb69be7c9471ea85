"""The softnet queue is held to a share of the reserve instead of being bypassed."""

from __future__ import annotations

from dataclasses import replace

from tidegate.designs.mail import DESIGN as MAIL

DESIGN = replace(
    MAIL,
    name="softnet_throttled",
    title="the softnet queue is throttled instead of bypassed",
    proposed_by="nobody: the way that the mail sets aside",
    source="the mail of August 2005: softnet's queues \"need throttling (which can't be done sanely) or bypassing\"",
    about=(
        "As `mail`, but a packet from the reserve waits in the softnet queue with all others, and the queue takes no "
        "more than its share of the reserve. The queue does not know yet whose packet it holds, so the packets of "
        "others can fill the share and block IO's replies are turned away."
    ),
    bypass=False,
    softnet_throttle=True,
)
