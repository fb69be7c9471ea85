"""A case: one claim, the machine and the storm it is tried on, and what each judge is expected to say.

Syntax only: a TOML file becomes frozen data, or one line says what is wrong with it. What the numbers do is the
judges' business. Sizes are pages of 4096 bytes unless the name says otherwise; times in the file are milli- or
microseconds, virtual.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tidegate.case_trial import Trial, check_trial
from tidegate.design import SWITCHES
from tidegate.errors import BadInput
from tidegate.strict_toml import Count, Positive, Ppm, Table, convert, parse_toml, read_toml

MEANT = "a case in TOML"
PAGE_BYTES = 4096
JUDGES = ("simulate", "prove", "trial", "check")
PARTS = ("machine", "nic", "user", "traffic", "hook", "load", "faults", "run")  # what an arm may set

Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
BufferBytes = Annotated[int, msgspec.Meta(ge=256, le=65536)]


class Driver(StrEnum):
    """What a NIC driver does with its receive buffers when an allocation fails."""

    COPY = "copy"  # fixed buffers; each packet is copied into a new skb, or dropped
    RECYCLE = "recycle"  # a new buffer first; without one the packet is dropped and the old buffer kept
    EMPTY = "empty"  # the packet goes up; the slot stays empty until a later refill
    POOL = "pool"  # as empty, but pages that come back go straight to the ring (page_pool)
    WORKER = "worker"  # a worker refills with GFP_KERNEL, the receive poll off meanwhile (virtio_net)


class Delivery(StrEnum):
    """How a driver hands packets to the stack."""

    NETIF_RX = "netif_rx"  # the interrupt queues them in softnet
    NAPI = "napi"  # a poll hands them over one by one


class Access(StrEnum):
    """Whether a driver's allocations may use the reserve."""

    NEVER = "never"  # GFP_ATOMIC only
    KEY = "key"  # while a memalloc socket exists; in 2.6.12: the driver was converted to dev_memalloc_skb
    ALWAYS = "always"  # dev_alloc_pages() of 6.12, or the first patch: whoever calls


class Protocol(StrEnum):
    """What a foreign packet is."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"
    IPV6 = "ipv6"
    RAW = "raw"
    FORWARD = "forward"
    FRAGMENT = "fragment"


class HookKind(StrEnum):
    """A delivery hook that keeps or copies packets before their protocol sees them."""

    TAP = "tap"  # a packet socket on every protocol: skb_clone
    FILTER = "filter"  # a queue to user space (NFQUEUE): skb_copy
    BRIDGE = "bridge"  # a port to a guest: the copy waits for the guest


class Buddy(StrEnum):
    """How free pages are counted."""

    COUNT = "count"  # a number; an order > 0 needs that many pages
    LISTS = "lists"  # buddy lists: an order > 0 needs a block


class Machine(Table, frozen=True):
    """Memory and processor of the client."""

    pages: Positive = 4096  # managed by the one zone
    programs_pages: Count = 0  # resident from the start, never freed
    min_pages: Count = 0  # 0: what the kernel computes, isqrt(16 * KiB) kB
    reserve_pages: Count = 64  # what the designs with a reserve keep for block IO alone
    raise_min: bool = True  # min is 8/3 of the reserve; false: min is the reserve (min_free_kbytes)
    page_per_skb: bool = False  # an skb is one page, as counter models have it; false: slab objects
    buddy: Buddy = Buddy.COUNT  # free pages as a number or as lists by order
    packet_ns: Positive = 4_000  # CPU time of one packet in softirq
    backlog_packets: Positive = 300  # netdev_max_backlog of 2.6.12
    tcp_mem_pages: Count = 0  # tcp_mem[2]; 0: no bound


class Nic(Table, frozen=True):
    """The receive side of the NIC."""

    driver: Driver = Driver.EMPTY  # what it does when a buffer cannot be had
    delivery: Delivery = Delivery.NETIF_RX  # by interrupt and softnet, or by poll
    access: Access = Access.KEY  # whether its allocations may use the reserve
    ring: Positive = 64  # receive buffers
    buffer_bytes: BufferBytes = 2048  # of one; more than a page takes a block of pages
    copybreak_bytes: Count = 0  # frames up to this are copied into a small skb; 0: none


class User(Table, frozen=True):
    """A block user: a swap device or disk that rides on the network."""

    name: str = "swap"  # unique in the case
    transport: str = "nbd"  # nbd, iscsi
    connections: Positive = 1  # TCP connections, each with a sender of its own
    request_pages: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1  # of data in a write
    queue_depth: Positive = 128  # nr_requests of 2.6.12
    reads_percent: Percent = 0  # share of the programs' steps that swap in
    readahead_pages: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8  # of data in a read
    sndbuf_bytes: Positive = 131_072  # sk_sndbuf of each connection
    rcvbuf_bytes: Positive = 262_144  # sk_rcvbuf of each connection
    service_us: Positive = 100  # of the server, a request
    latency_us: Positive = 100  # one way
    unasked_per_s: Count = 0  # messages that nobody asked for (NOP-In, AEN, callbacks)
    share_percent: Positive = 100  # of the pages that programs dirty, against other users
    memalloc: bool = True  # the transport sets the flag where a design has one
    mirror: Positive = 1  # legs of a mirror above the connection
    encrypts: bool = False  # a copy of the data below the file system
    tickets: Count = 0  # a fixed number of requests at a time in place of the ledger; 0: the ledger
    connects_ms: Count = 0  # when it is loaded
    leaves_ms: Count = 0  # 0: it stays


class Traffic(Table, frozen=True):
    """Packets of others."""

    protocol: Protocol = Protocol.TCP  # which queue it meets
    packets_per_s: Positive = 20_000  # on average
    burst: Positive = 1  # packets at the speed of the wire
    length_bytes: Annotated[int, msgspec.Meta(ge=60, le=9018)] = 1514  # of a frame
    sockets: Positive = 16  # it is spread over
    rcvbuf_bytes: Positive = 1_048_576  # of each socket
    read_ms: Count = 0  # a socket is emptied that often; 0: nobody reads
    sender_reads: bool = False  # the sender respects a full socket
    from_ms: Count = 0  # when it begins
    until_ms: Count = 0  # 0: to the end of the storm


class Hook(Table, frozen=True):
    """A tap, a filter or a bridge."""

    kind: HookKind = HookKind.TAP  # tap, filter or bridge
    rcvbuf_bytes: Positive = 1_048_576  # what its queue may hold
    read_ms: Count = 0  # it is emptied that often; 0: nobody reads


class Load(Table, frozen=True):
    """Programs that dirty memory."""

    programs: Positive = 4  # that dirty pages
    dirty_us: Positive = 50  # one page each
    dirtied_pages: Count = 0  # all of them together stop there; 0: no bound


class Faults(Table, frozen=True):
    """What goes wrong on the wire, at the server and beside it."""

    loss_ppm: Ppm = 0  # of block IO's packets, both ways
    reorder_ppm: Ppm = 0  # of block IO's packets, delayed
    reorder_us: Count = 400  # by up to so much
    stall_from_ms: Count = 0  # the server stops serving then
    stall_ms: Count = 0  # for so long
    reset_ms: Count = 0  # the connection is reset then; 0: never
    eater_pages: Count = 0  # other holders of PF_MEMALLOC take so many
    eater_ms: Count = 0  # for so long each; 0: they never give back
    admin_ms: Count = 0  # the administrator writes min_free_kbytes then
    admin_min_pages: Count = 0  # and this is what he writes, as pages of min


class Storm(Table, frozen=True):
    """How long, and how judged."""

    storm_ms: Positive = 2_000  # length of the storm
    gap_ms: Positive = 800  # a user without completion for so long, up to the end of the storm, starved
    seeds: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 20  # runs of an arm


class Arm(Table, frozen=True):
    """A design on this case, with what is left out or added, and what the judges should say."""

    name: str  # unique in the case
    design: str  # a file of designs/
    without: tuple[str, ...] = ()  # switches of the design that are off
    set: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)  # tables of the case that differ
    expect: dict[str, str] = msgspec.field(default_factory=dict)  # judge -> word
    why: str = ""  # what one sees and what decides it


class Case(Table, frozen=True):
    """The whole file."""

    claim: str  # one sentence
    source: str  # where it comes from
    finding: str = ""  # the finding that it belongs to, such as D1
    machine: Machine = Machine()  # the client
    nic: Nic = Nic()  # its receive side
    user: tuple[User, ...] = (User(),)  # its block users
    traffic: tuple[Traffic, ...] = ()  # packets of others
    hook: tuple[Hook, ...] = ()  # taps and the like
    load: Load = Load()  # its programs
    faults: Faults = Faults()  # what goes wrong
    run: Storm = Storm()  # how long, how often
    arm: tuple[Arm, ...] = ()  # what is tried
    trial: Trial | None = None  # how it is tried on real kernels
    name: str = ""  # of the file; not written in it


WORDS = {
    "simulate": ("STUCK", "LUCKY", "REFUSED", "SEEN"),
    "prove": ("HOLDS", "LUCKY", "STUCK", "NODEAD", "UNKNOWN"),
    "trial": ("SURVIVED", "STALLED", "WEDGED", "OOM", "PANIC"),
    "check": ("SAFE", "AT_RISK", "CANNOT_TELL"),
}


def read_case(path: Path) -> Case:
    """The case in a file. BadInput names file and key; Lacking where it may not be read."""
    return _case(read_toml(path, MEANT), str(path))


def parse_case(data: bytes, file: str) -> Case:
    """The case in the bytes of a file; its name is the file's, without `.toml`. Raises BadInput."""
    return _case(parse_toml(data, file, MEANT), file)


def _case(table: dict[str, Any], file: str) -> Case:
    if "name" in table:
        raise BadInput(file, "name", "a key `name`", "no such key: a case is called as its file")
    case = convert(table | {"name": Path(file).stem}, Case, file, MEANT)
    check_case(case, file)
    return case


def arm_case(case: Case, arm: Arm, file: str = "") -> Case:
    """The case with what the arm sets in it. BadInput, which names `file` or the case, where that makes no sense."""
    if not arm.set:
        return case
    table = msgspec.to_builtins(case)
    place = f"{file or case.name}: arm {arm.name!r}"
    for part, changes in arm.set.items():
        if part not in PARTS:
            raise BadInput(place, f"set.{part}", f"no part {part!r}", f"a part of a case: {', '.join(PARTS)}")
        if isinstance(table[part], dict):
            table[part] |= changes
        elif not table[part]:
            raise BadInput(place, f"set.{part}", f"no [[{part}]] that could be changed", "at least one")
        else:
            table[part] = [one | changes for one in table[part]]  # every user, every stream, alike
    changed = convert(table, Case, place, MEANT, "set.")
    _check_machine(changed, place)
    return changed


def check_case(case: Case, file: str) -> None:
    """Raises BadInput where a case cannot be, each key by itself being fine."""
    _check_machine(case, file)
    names = [arm.name for arm in case.arm]
    for at, arm in enumerate(case.arm):
        place = f"arm[{at}]"
        if names.count(arm.name) > 1:
            raise BadInput(file, f"{place}.name", f"{arm.name!r} twice", "each arm's name once")
        for name in arm.without:
            if name not in SWITCHES:
                raise BadInput(
                    file, f"{place}.without", repr(name), f"a switch of a design: {', '.join(SWITCHES)}"
                )
        for judge, word in arm.expect.items():
            if judge not in WORDS:
                raise BadInput(file, f"{place}.expect", repr(judge), f"a judge: {', '.join(JUDGES)}")
            if word not in WORDS[judge]:
                raise BadInput(
                    file, f"{place}.expect.{judge}", repr(word), f"one of {', '.join(WORDS[judge])}"
                )
        arm_case(case, arm, file)
    if case.trial is not None:
        check_trial(case.trial, file)


def _check_machine(case: Case, file: str) -> None:
    for place, found, expected in _impossible(case):
        raise BadInput(file, place, found, expected)


def _buffer_pages(buffer_bytes: int) -> int:
    """Of one receive buffer; more than a page is rounded up to an order, as kmalloc does."""
    return max(1, (1 << (buffer_bytes - 1).bit_length()) // PAGE_BYTES)


def _impossible(case: Case) -> Iterator[tuple[str, str, str]]:
    machine, nic = case.machine, case.nic
    ring = nic.ring * (1 if machine.page_per_skb else _buffer_pages(nic.buffer_bytes))
    if machine.reserve_pages >= machine.pages:
        yield (
            "machine.reserve_pages",
            f"{machine.reserve_pages} of {machine.pages} pages",
            "a reserve smaller than memory",
        )
    if machine.min_pages >= machine.pages:
        yield ("machine.min_pages", str(machine.min_pages), f"less than the {machine.pages} pages there are")
    if machine.programs_pages + ring >= machine.pages:
        yield (
            "machine.programs_pages",
            f"{machine.programs_pages}, and {ring} pages of ring",
            f"less than the {machine.pages} pages there are",
        )
    elif machine.programs_pages + ring + 3 * machine.reserve_pages >= machine.pages:
        yield (
            "machine.reserve_pages",
            f"{machine.reserve_pages}, beside {machine.programs_pages} of programs and {ring} of ring",
            f"a third of what is left of the {machine.pages} pages (min would be 8/3 of the reserve)",
        )
    elif machine.programs_pages + ring + machine.min_pages >= machine.pages:
        yield (
            "machine.min_pages",
            f"{machine.min_pages}, beside {machine.programs_pages} of programs and {ring} of ring",
            f"less than what is left of the {machine.pages} pages",
        )
    if not case.user:
        yield "user", "none", "at least one block user"
    names = [user.name for user in case.user]
    for at, user in enumerate(case.user):
        if names.count(user.name) > 1:
            yield f"user[{at}].name", f"{user.name!r} twice", "each user's name once"
        if user.transport not in {"nbd", "iscsi"}:
            yield f"user[{at}].transport", repr(user.transport), "nbd or iscsi"
        if user.leaves_ms and user.leaves_ms <= user.connects_ms:
            yield f"user[{at}].leaves_ms", str(user.leaves_ms), f"after connects_ms = {user.connects_ms}"
    if case.run.gap_ms >= case.run.storm_ms:
        yield "run.gap_ms", str(case.run.gap_ms), f"less than run.storm_ms = {case.run.storm_ms}"
