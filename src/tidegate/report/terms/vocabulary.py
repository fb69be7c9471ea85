"""The words of a judgement and the numbers of the sum: what each means, fixed once."""

from __future__ import annotations

from tidegate.report.terms.term import Term

VERDICTS = (
    Term(
        id="AT_RISK",
        kind="verdict",
        title="memory pressure and ordinary traffic are enough to lock this host up",
        meaning=(
            "At least one finding of severity deadlock applies. An accepted finding counts all the same: "
            "accepting one says that somebody knows, not that it cannot happen. Exit code 1."
        ),
        related=("SAFE", "CANNOT_TELL", "deadlock"),
    ),
    Term(
        id="SAFE",
        kind="verdict",
        title="no known way into the deadlock is open, under the conditions listed",
        meaning=(
            "No finding of severity deadlock applies or is unknown, everything that rides on the network "
            "could be read, and no row of the sum is without bound. The conditions are part of the word: "
            "while the connections hold, while a neighbour entry stays valid, apart from stalls that end "
            "by themselves. A host with nothing on the network is SAFE and says so. Exit code 0."
        ),
        related=("AT_RISK", "CANNOT_TELL"),
    ),
    Term(
        id="CANNOT_TELL",
        kind="verdict",
        title="something that decides it could not be read or has no bound",
        meaning=(
            "No finding of severity deadlock is known to apply, and one is unknown; or what the host has "
            "over the network could not be read; or a row of the sum has no bound. The reason names what "
            "is missing. Missing input never makes a host look safer. Exit code 3."
        ),
        related=("AT_RISK", "SAFE", "unknown"),
    ),
)

RUNS = (
    Term(
        id="STUCK",
        kind="verdict",
        title="after the storm somebody waits, and no completion can come",
        meaning=(
            "A run of the mechanism (tidegate simulate) is a storm, then a calm in which the adversary stops: "
            "what is parked stays parked, nothing new comes, nothing is lost. STUCK: a block user has demand, "
            "and none of its requests has completed within twice the largest retransmission timeout (240 s). "
            "Said as k of n seeds; one is enough to show that it can happen. Exit code 1, or 0 where the case "
            "expects it."
        ),
        related=("LUCKY", "SEEN"),
    ),
    Term(
        id="LUCKY",
        kind="verdict",
        title="somebody starved until the storm was over",
        meaning=(
            "A block user had demand and no completion for the last part of the storm (run.gap_ms of the "
            "case), and the calm freed it: nothing is parked for ever, but whoever sends the storm can put "
            "completions off as long as it goes on. Exit code 1, or 0 where the case expects it."
        ),
        related=("STUCK", "SEEN"),
    ),
    Term(
        id="SEEN",
        kind="verdict",
        title="in every run everything completed, and nobody starved",
        meaning=(
            "Neither STUCK nor LUCKY in any of the n seeds. It speaks of the runs that were made and of no "
            "other: what holds for every run is for a proof to say. Exit code 0, or 1 where the case expects "
            "something else."
        ),
        related=("STUCK", "LUCKY"),
    ),
    Term(
        id="REFUSED",
        kind="verdict",
        title="the throttle has no room for a user, and says so with the number",
        meaning=(
            "What is fixed for the ring and the connections and one largest request of each user do not fit "
            "the reserve, so the user is not admitted, and nothing was tried. Not a deadlock, and no survival."
        ),
        related=("SEEN", "STUCK"),
    ),
)

STATES = (
    Term(
        id="applies",
        kind="state",
        title="the rule's condition holds on this host",
        meaning="The evidence beside it names the files and the values that say so.",
        related=("absent", "unknown"),
    ),
    Term(
        id="absent",
        kind="state",
        title="the rule's condition does not hold on this host",
        meaning="Said only when everything that the rule rests on could be read.",
        related=("applies", "unknown"),
    ),
    Term(
        id="unknown",
        kind="state",
        title="it cannot be told, and what is missing is named",
        meaning=(
            "Each rule declares the topics that its absence rests on. A gap in one of them makes absent "
            "unknown, for every rule in the same way; a gap never makes applies absent."
        ),
        related=("applies", "absent", "CANNOT_TELL"),
    ),
)

SEVERITIES = (
    Term(
        id="deadlock",
        kind="severity",
        title="memory pressure and ordinary traffic suffice, and only help from outside ends it",
        meaning=(
            "The question is whether memory can still be freed without the network. Where swap rides on "
            "it, also under LVM, dm-crypt or a loop device, anonymous memory cannot: what stops the "
            "replies stops everything. A server on the same machine and a program that serves writes are "
            "deadlocks without swap too, since the dirty pages that reclaim waits for are theirs."
        ),
        related=("stall", "AT_RISK"),
    ),
    Term(
        id="fault",
        kind="severity",
        title="another fault must come first, such as a lost connection",
        meaning="It does not decide the verdict; where it applies, SAFE names it as a condition.",
        related=("deadlock",),
    ),
    Term(
        id="stall",
        kind="severity",
        title="progress stops without a bound that is known, then goes on by itself or by an OOM kill",
        meaning=(
            "Where a mount or a disk rides on the network and swap does not, what would be a deadlock is "
            "a stall: the OOM killer can still free anonymous memory."
        ),
        related=("deadlock", "loss"),
    ),
    Term(
        id="loss",
        kind="severity",
        title="somebody's packets, data or programs are lost, and nothing stands still",
        meaning="Often the harm is done to bystanders: their packets met a buffer of the reserve.",
        related=("stall", "note"),
    ),
    Term(
        id="note",
        kind="severity",
        title="worth knowing",
        meaning="Makes something else untrue or likelier, and is not a way into the deadlock itself.",
        related=("loss",),
    ),
)

LAWS = (
    Term(
        id="reserve",
        kind="law",
        title="what admitted block IO may still withdraw is not more than what only block IO can take",
        meaning=(
            "The first of three laws: at any moment. On a stock kernel nothing sizes the reserve for its "
            "users or counts what is out; the settings make the sum fit."
        ),
        related=("discard", "throttle", "need", "exclusive", "D15"),
    ),
    Term(
        id="discard",
        kind="law",
        title=(
            "nothing else holds a page of the reserve, or the ring's last ordinary ones, without bound on "
            "time"
        ),
        meaning=(
            "The second law. The kernel drops reserve packets of ordinary sockets late, after they have "
            "used a buffer; an early drop at ingress does it before. Settings can bound what others park."
        ),
        related=("reserve", "throttle", "settings_alone", "with_drop"),
    ),
    Term(
        id="throttle",
        kind="law",
        title="no block request is admitted before its worst withdrawal is accounted for",
        meaning=(
            "The third law: to transmit it and to receive its acknowledgement. On a stock kernel it can "
            "only be kept statically: capped connections and shallow queues whose sum fits."
        ),
        related=("reserve", "discard", "cap"),
    ),
)

BASES = (
    Term(
        id="arithmetic",
        kind="basis",
        title="a setting that follows from the itemised sum",
        meaning="Its bounds and the row that dominates are printed beside it.",
    ),
    Term(
        id="proved",
        kind="basis",
        title="a setting under which a proof on the model holds",
        meaning="The scope of the proof is printed with it.",
    ),
    Term(
        id="tried",
        kind="basis",
        title="a setting that was run on unmodified kernels, with counts",
        meaning="A recipe that a trial refuted is withdrawn.",
    ),
)

NUMBERS = (
    Term(
        id="need",
        kind="number",
        title="pages that block IO, and others who reach the same pages, may withdraw below min",
        meaning=(
            "A sum of rows, one a holder: per connection twice the send buffer and up to three times the "
            "receive buffer, the rings that refill from the reserve, packets on their way back to another "
            "CPU, other users of PF_MEMALLOC. A row without a bound makes the sum unbounded, and the host "
            "is never SAFE."
        ),
        related=("exclusive", "D15", "cap"),
        aliases=("need_pages",),
    ),
    Term(
        id="exclusive",
        kind="number",
        title="pages that only memalloc users can take",
        meaning=(
            "Per zone 3/8 of min plus lowmem_reserve, less highatomic, CMA and per-CPU pages, never more "
            "than is free. Not the whole of min_free_kbytes: GFP_ATOMIC of any driver goes down to 3/8 of "
            "min."
        ),
        functions=("mm/page_alloc.c:__zone_watermark_ok", "mm/page_alloc.c:gfp_to_alloc_flags"),
        related=("need", "floor", "vm.min_free_kbytes"),
        aliases=("exclusive_pages",),
    ),
    Term(
        id="floor",
        kind="number",
        title="where GFP_ATOMIC stops: 3/8 of min, plus lowmem_reserve",
        meaning=(
            "Without an early drop, foreign packets bring a zone exactly there, whatever min is, and the "
            "next refill of the receive ring is the one that fails."
        ),
        functions=("mm/page_alloc.c:__zone_watermark_ok",),
        related=("exclusive", "settings_alone", "D2"),
    ),
    Term(
        id="band",
        kind="number",
        title="room between the level at which reclaiming tasks sleep and the atomic floor",
        meaning=(
            "Of a node: half of the sum of min and boost, less the sum of 3/8 min and lowmem_reserve. At "
            "or below zero nothing holds a task back before the atomic floor is reached. Kernel threads "
            "are never held back."
        ),
        functions=("mm/vmscan.c:allow_direct_reclaim", "mm/vmscan.c:throttle_direct_reclaim"),
        related=("floor", "pgscan_direct_throttle"),
        aliases=("band_pages",),
    ),
    Term(
        id="pin",
        kind="number",
        title="pages that others can hold physically",
        meaning=(
            "Sockets nobody reads, fragments, packet sockets, the backlog: each limit times what one "
            "packet really keeps from being freed. On virtio_net a small packet keeps 32 KiB unless "
            "net.core.high_order_alloc_disable is 1."
        ),
        related=("settings_alone", "pin-accounting", "net.ipv4.udp_mem", "net.ipv4.tcp_mem"),
        aliases=("pin_pages",),
    ),
    Term(
        id="settings_alone",
        kind="number",
        title="the condition under which settings keep a host alive without an early drop",
        meaning=(
            "What others can pin, plus what block IO and rings take, fits between high and 3/8 of min. "
            "Then foreign traffic cannot bring a zone to its floor, and D1, D2, D3 and what else rests on "
            "that are absent."
        ),
        sources=("runs on Linux 6.12.117: 18 MB of room against 11 to 12 MB to pin, 3 of 3 survived",),
        related=("with_drop", "pin", "floor"),
    ),
    Term(
        id="with_drop",
        kind="number",
        title="the condition under which an early drop that closes at min keeps a host alive",
        meaning=(
            "What block IO and rings take fits into 5/8 of min. With the drop, what others can pin is out "
            "of the sum from the point where it closes."
        ),
        sources=("runs on Linux 6.12.117: 0 of 83 bad with drop, caps, SO_RESERVE_MEM and sized reserve",),
        related=("settings_alone", "early-drop"),
    ),
)

TERMS = (*VERDICTS, *RUNS, *STATES, *SEVERITIES, *LAWS, *BASES, *NUMBERS)
