"""The mempool variant that the mail announces."""

from __future__ import annotations

from dataclasses import replace

from tidegate.design import Pool
from tidegate.designs.mail import DESIGN as MAIL

DESIGN = replace(
    MAIL,
    name="mempool",
    title="as the mail, with the reserve in a mempool",
    source='the mail of August 2005 ("I still intend to produce a mempool variant of the patch")',
    about=(
        "As `mail`, but the reserve is elements allocated beforehand, which nobody else can take and which never go "
        'back. The mail\'s objection: a mempool "not only reserves resources, but pins them", so "physical '
        'defragmentation gets that much harder and the buddy tree will fragment that much sooner". The mail announces '
        "the variant and does not have it; this one is ours."
    ),
    pool=Pool.MEMPOOL,
)
