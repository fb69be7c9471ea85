"""Results as `check` makes them, for the tests of the reports: made by hand, with a stock kernel's numbers.

The AT_RISK host is the 256 MB guest of the kernel notes: min_free_kbytes 1830 gives min 33 and 423 pages, of
which 3/8 and the DMA zone's lowmem_reserve of 188 pages are exclusive: 12 + 188 + 158 = 358 pages.
"""

from __future__ import annotations

from dataclasses import replace

from tidegate.result import (
    Accepted,
    Basis,
    ChainLink,
    CheckResult,
    Condition,
    Cure,
    Evidence,
    Finding,
    Gap,
    HostView,
    Law,
    Reserve,
    Row,
    Setting,
    Severity,
    Shown,
    SocketView,
    State,
    Step,
    Topic,
    UserView,
    Verdict,
    Way,
    ZoneLevels,
)

PAGE = 4096


def evidence(source: str, value: str, meaning: str = "") -> Evidence:
    return Evidence(source=source, value=value, meaning=meaning)


def zones_256mb() -> tuple[ZoneLevels, ...]:
    return (
        ZoneLevels(
            node=0,
            name="DMA",
            managed=3840,
            free=2113,
            boost=0,
            min=33,
            low=41,
            high=49,
            floor=200,
            lowmem_reserve=188,
            exclusive=200,
        ),
        ZoneLevels(
            node=0,
            name="DMA32",
            managed=48243,
            free=9120,
            boost=0,
            min=423,
            low=528,
            high=633,
            floor=158,
            lowmem_reserve=0,
            exclusive=158,
        ),
    )


def reserve_256mb() -> Reserve:
    rows = (
        Row(
            holder="receive buffers of nbd0",
            pages=1495,
            why="3 x tcp_rmem[2] 1,730,560 B + sndbuf/2 + 64 KiB: receive queue and backlog, autotuned",
            subject="swap /dev/nbd0",
            measured=False,
        ),
        Row(
            holder="send buffers of nbd0",
            pages=447,
            why="tcp_wmem[2] 1,730,560 B + 64 KiB + 32 KiB: queued until acknowledged, autotuned",
            subject="swap /dev/nbd0",
            measured=False,
        ),
        Row(
            holder="receive ring of eth0",
            pages=256,
            why="256 slots x 4,096 B, all refilled once",
            subject="eth0",
        ),
        Row(holder="GRO on 1 CPU", pages=128, why="1 x 32 skbs deferred of 16 KiB", subject="host"),
        Row(
            holder="UDP of others",
            pages=5862,
            why="udp_mem[2]: what other sockets may pin above min",
            subject="host",
            kind="pin",
        ),
        Row(
            holder="other PF_MEMALLOC tasks",
            pages=32,
            why="kswapd0 and the NBD worker",
            subject="host",
            kind="others",
        ),
    )
    return Reserve(
        page_bytes=PAGE,
        need_pages=2326,
        exclusive_pages=358,
        band_pages=-130,
        pin_pages=5862,
        rows=rows,
        zones=zones_256mb(),
        conditions=(
            Condition(
                id="settings_alone",
                left_pages=8188,
                right_pages=512,
                holds=False,
                text="what others can pin plus what block IO takes fits between high and 3/8 of min",
            ),
            Condition(
                id="with_drop",
                left_pages=2326,
                right_pages=286,
                holds=False,
                text="with an early drop that closes at min: what block IO takes fits into 5/8 of min",
            ),
        ),
    )


def nbd_user() -> UserView:
    socket = evidence(
        "netlink/inet_diag.json: sockets[2]", "10.0.2.15:48022 -> 10.0.2.2:10809", "owned by the kernel"
    )
    return UserView(
        name="swap /dev/nbd0",
        kind="swap",
        transport="nbd",
        chain=(
            ChainLink(
                kind="swap",
                name="/dev/nbd0",
                detail="512 MiB, priority -2",
                evidence=(evidence("proc/swaps", "/dev/nbd0 partition 524284 0 -2"),),
            ),
            ChainLink(
                kind="nbd",
                name="nbd0",
                detail="1 connection, timeout 0",
                evidence=(evidence("sys/block/nbd0/pid", "212", "connected by nbd-client"),),
            ),
            ChainLink(
                kind="socket",
                name="10.0.2.15:48022 to 10.0.2.2:10809",
                detail="tcp, autotuned buffers",
                evidence=(socket,),
            ),
            ChainLink(
                kind="route",
                name="10.0.2.2",
                detail="on link, neighbour REACHABLE",
                evidence=(evidence("netlink/route.json: 10.0.2.2", "dev eth0 src 10.0.2.15"),),
            ),
            ChainLink(
                kind="nic",
                name="eth0",
                detail="virtio_net, 1 ring of 256",
                evidence=(evidence("sys/class/net/eth0/device/driver", "virtio_net"),),
            ),
        ),
        sockets=(
            SocketView(
                local="10.0.2.15:48022",
                remote="10.0.2.2:10809",
                sndbuf_bytes=87040,
                rcvbuf_bytes=131072,
                capped=False,
                held_bytes=4352,
                evidence=(socket,),
            ),
        ),
        nic="eth0",
        driver="virtio_net",
    )


def findings_nbd() -> tuple[Finding, ...]:
    return (
        Finding(
            id="D10",
            title="the neighbour entry of the server expires while memory is short",
            place="path",
            state=State.APPLIES,
            severity=Severity.FAULT,
            shown=Shown.SOURCE,
            subjects=("swap /dev/nbd0",),
            evidence=(evidence("netlink/neigh.json: 10.0.2.2", "REACHABLE", "not permanent"),),
            cure=Cure(settings=("neigh.permanent:10.0.2.2",)),
            why="10.0.2.2 is REACHABLE and may expire; the ARP request that renews it is plain GFP_ATOMIC",
        ),
        Finding(
            id="D1",
            title="the worker that refills the receive ring waits for the swap it should serve",
            place="ring",
            state=State.APPLIES,
            severity=Severity.DEADLOCK,
            shown=Shown.RUN,
            subjects=("swap /dev/nbd0", "eth0"),
            evidence=(
                evidence(
                    "sys/class/net/eth0/device/driver", "virtio_net", "refills GFP_ATOMIC, then in a worker"
                ),
                evidence(
                    "proc/zoneinfo", "Node 0, zone DMA32: free 9120, min 423", "GFP_ATOMIC stops at 158 pages"
                ),
            ),
            cure=Cure(
                settings=("net.core.high_order_alloc_disable", "vm.min_free_kbytes", "early-drop:eth0")
            ),
            why="eth0 is virtio_net: below 158 free pages a worker that reclaims fills its ring",
        ),
        Finding(
            id="D15",
            title="the reserve is smaller than what block IO may take from it",
            place="host",
            state=State.APPLIES,
            severity=Severity.DEADLOCK,
            shown=Shown.INFERRED,
            subjects=("swap /dev/nbd0",),
            evidence=(evidence("proc/sys/vm/min_free_kbytes", "1830", "of which 3/8 is exclusive"),),
            cure=Cure(settings=("cap:swap /dev/nbd0", "vm.min_free_kbytes")),
            why="block IO may take 2,326 pages below min and 358 are kept for it",
        ),
        Finding(
            id="D5",
            title="a driver that always uses the reserve drains it for others",
            place="ring",
            state=State.ABSENT,
            severity=Severity.DEADLOCK,
            shown=Shown.INFERRED,
            evidence=(evidence("sys/class/net/eth0/device/driver", "virtio_net"),),
            why="virtio_net does not refill from the reserve",
        ),
        Finding(
            id="D9",
            title="a user-space daemon stands in the path of reconnecting",
            place="daemon",
            state=State.APPLIES,
            severity=Severity.FAULT,
            shown=Shown.SOURCE,
            subjects=("nbd-client (212)",),
            evidence=(evidence("proc/212/task/212/stat", "flags 0x400140", "PF_MEMALLOC_NOIO not set"),),
            cure=Cure(settings=("io-flusher:nbd-client",)),
            why="nbd-client (212) reconnects and is neither IO_FLUSHER nor locked",
            accepted=Accepted(reason="the server restarts us", expires="2027-01-31"),
        ),
        Finding(
            id="D4",
            title="free pages are stranded where the reserve's users cannot take them",
            place="host",
            state=State.UNKNOWN,
            severity=Severity.STALL,
            shown=Shown.INFERRED,
            evidence=(evidence("proc/pagetypeinfo", "denied"),),
            why="proc/pagetypeinfo is denied",
        ),
        Finding(
            id="D22",
            title="work without a rescuer thread",
            place="ring",
            state=State.APPLIES,
            severity=Severity.NOTE,
            shown=Shown.SOURCE,
            evidence=(evidence("sys/class/net/eth0/device/driver", "virtio_net"),),
            cure=Cure(curable=False, instead="another NIC model, or kernel 6.19 and newer"),
            why="refill_work of virtio_net runs on system_wq",
        ),
    )


def plan_nbd() -> tuple[Setting, ...]:
    return (
        Setting(
            id="cap:swap /dev/nbd0",
            law=Law.THROTTLE,
            path="socket:10.0.2.2:10809",
            old="autotuned to 1730560 / 1730560",
            new="SO_SNDBUF 131072, SO_RCVBUF 131072",
            why="a connection without caps may queue 13 times as much",
            basis=Basis.TRIED,
            lower="65536: the largest request",
            upper="131072",
            dominant="receive buffers of nbd0",
            cures=("D15",),
            first="set before the socket is handed to the kernel",
        ),
        Setting(
            id="net.core.high_order_alloc_disable",
            law=Law.RESERVE,
            path="/proc/sys/net/core/high_order_alloc_disable",
            old="0",
            new="1",
            why="a small packet otherwise pins a page of 32 KiB",
            basis=Basis.TRIED,
            cures=("D1",),
            means=("sysctl", "script", "tuned"),
        ),
        Setting(
            id="net.ipv4.udp_mem",
            law=Law.DISCARD,
            path="/proc/sys/net/ipv4/udp_mem",
            old="2931\t3908\t5862",
            new="512 768 1024",
            why="what sockets that nobody reads may pin",
            basis=Basis.ARITHMETIC,
            cures=("D1",),
            means=("sysctl", "script", "tuned"),
        ),
        Setting(
            id="vm.min_free_kbytes",
            law=Law.RESERVE,
            path="/proc/sys/vm/min_free_kbytes",
            old="1830",
            new="8192",
            why="3/8 of it and lowmem_reserve must hold 680 pages",
            basis=Basis.ARITHMETIC,
            lower="7210: send and receive buffers of nbd0",
            upper="10240: 5 % of memory",
            dominant="receive ring of eth0",
            cures=("D1", "D15"),
            first="2,700 pages above high must be free",
            steps=("4096", "8192"),
            means=("sysctl", "script", "tuned"),
        ),
        Setting(
            id="neigh.permanent:10.0.2.2",
            law=Law.RESERVE,
            path="neigh:eth0/10.0.2.2",
            old="REACHABLE",
            new="PERMANENT",
            why="no ARP request is needed while memory is short",
            basis=Basis.TRIED,
            cures=("D10",),
        ),
    )


def at_risk() -> CheckResult:
    """virtio-net, swap over NBD, 256 MB: what the stock kernel hangs with."""
    return CheckResult(
        host=HostView(
            name="virtio-nbd",
            kernel="6.12.117-cloud-amd64",
            taken="2026-11-23T20:14:07Z",
            source="hosts/virtio-nbd.tar.xz",
            memory_kib=208_332,
            page_bytes=PAGE,
            cpus=1,
        ),
        verdict=Verdict.AT_RISK,
        reason="swap /dev/nbd0 needs replies through eth0 (virtio_net), whose ring runs dry at 158 pages",
        conditions=(),
        users=(nbd_user(),),
        findings=findings_nbd(),
        reserve=reserve_256mb(),
        way=Way(
            source="rule",
            finding="D1",
            steps=(
                Step(
                    text="Programs fill 203 MiB; swap-out to nbd0 begins when DMA32 is below low, 528 pages.",
                    pages=528,
                ),
                Step(
                    text="Datagrams for sockets that nobody reads pin up to 5,862 pages; "
                    "the driver takes them GFP_ATOMIC down to 158 pages.",
                    stopped_by="net.ipv4.udp_mem",
                    pages=5862,
                ),
                Step(
                    text="eth0's ring needs 256 buffers; the next one finds 158 pages and is refused.",
                    stopped_by="vm.min_free_kbytes",
                    pages=158,
                ),
                Step(
                    text="refill_work stops NAPI, allocates GFP_KERNEL, reclaims, waits for a write to nbd0.",
                    stopped_by="net.core.high_order_alloc_disable",
                ),
                Step(text="The write's reply cannot be received: the ring is empty. Nothing moves again."),
            ),
        ),
        plan=plan_nbd(),
        remains=("D1 under foreign traffic without bound: an early drop at eth0 (no file holds it)",),
        after=Verdict.SAFE,
        gaps=(
            Gap(path="proc/pagetypeinfo", status="denied", topic=Topic.MEMORY, detail="mode 0400, not root"),
        ),
    )


def safe() -> CheckResult:
    """No swap, disk or file system rides on the network."""
    zones = zones_256mb()
    return CheckResult(
        host=HostView(
            name="local-disk",
            kernel="6.1.0-56-amd64",
            taken="2026-11-23T20:20:00Z",
            source="live",
            memory_kib=208_332,
            page_bytes=PAGE,
            cpus=2,
        ),
        verdict=Verdict.SAFE,
        reason="no swap, disk or file system of this host rides on the network",
        conditions=("no network storage is added",),
        users=(),
        findings=tuple(
            replace(one, state=State.ABSENT, accepted=None, why="no block user rides on the network")
            for one in findings_nbd()
        ),
        reserve=Reserve(
            page_bytes=PAGE,
            need_pages=0,
            exclusive_pages=358,
            band_pages=-130,
            pin_pages=5862,
            rows=(),
            zones=zones,
            conditions=(),
        ),
        way=None,
        plan=(),
        after=Verdict.SAFE,
    )


def cannot_tell() -> CheckResult:
    """An sos report: it holds no socket buffers and no ring sizes."""
    base = at_risk()
    link = base.users[0].chain
    user = replace(
        base.users[0], sockets=(), chain=(*link[:2], *link[3:]), note="its sockets are not in the report"
    )
    rows = (
        Row(
            holder="receive buffers of nbd0",
            pages=None,
            why="tcp_rmem is not in the report",
            subject="swap /dev/nbd0",
            measured=False,
        ),
        base.reserve.rows[2],
    )
    return replace(
        base,
        host=replace(base.host, name="diskless-12", source="sosreport-diskless-12.tar.xz", cpus=None),
        verdict=Verdict.CANNOT_TELL,
        reason="netlink/inet_diag.json is not held by an sos report, so D1 cannot be told",
        users=(user,),
        findings=tuple(
            replace(one, state=State.UNKNOWN, accepted=None, evidence=(), why="proc/sys/net is not held")
            for one in findings_nbd()
        ),
        reserve=replace(
            base.reserve,
            need_pages=None,
            exclusive_pages=None,
            band_pages=None,
            pin_pages=None,
            rows=rows,
            zones=(),
        ),
        way=None,
        plan=(),
        remains=(),
        after=None,
        gaps=(
            Gap(path="netlink/inet_diag.json", status="not held", topic=Topic.SOCKETS),
            Gap(
                path="proc/zoneinfo",
                status="damaged",
                topic=Topic.MEMORY,
                detail="ends in the middle of a zone",
            ),
            Gap(path="proc/sys/net/ipv4/tcp_rmem", status="not held", topic=Topic.LIMITS),
        ),
    )


HOSTILE = "x\x1b[31m</script><img src=x onerror=alert(1)>\"'&-->\n\u202e" + "\u00e9"


def hostile() -> CheckResult:
    """Every text that comes from the host is hostile."""
    base = at_risk()
    bad = evidence(HOSTILE, HOSTILE, HOSTILE)
    link = ChainLink(kind=HOSTILE, name=HOSTILE, detail=HOSTILE, evidence=(bad,))
    socket = replace(base.users[0].sockets[0], local=HOSTILE, remote=HOSTILE, evidence=(bad,))
    user = replace(
        base.users[0],
        name=HOSTILE,
        chain=(link, link),
        sockets=(socket,),
        nic=HOSTILE,
        driver=HOSTILE,
        note=HOSTILE,
    )
    finding = replace(
        base.findings[1],
        title=HOSTILE,
        why=HOSTILE,
        subjects=(HOSTILE,),
        evidence=(bad,),
        cure=Cure(settings=(HOSTILE,), instead=HOSTILE),
        accepted=Accepted(reason=HOSTILE, expires=HOSTILE),
    )
    row = replace(base.reserve.rows[0], holder=HOSTILE, why=HOSTILE, subject=HOSTILE)
    setting = replace(
        base.plan[0],
        id=HOSTILE,
        path=HOSTILE,
        old=HOSTILE,
        new=HOSTILE,
        why=HOSTILE,
        first=HOSTILE,
        lower=HOSTILE,
    )
    zone = replace(base.reserve.zones[0], name=HOSTILE)
    assert base.way is not None
    return replace(
        base,
        host=replace(base.host, name=HOSTILE, kernel=HOSTILE, source=HOSTILE),
        reason=HOSTILE,
        conditions=(HOSTILE,),
        users=(user,),
        findings=(finding,),
        reserve=replace(base.reserve, rows=(row,), zones=(zone,)),
        way=replace(base.way, steps=(Step(text=HOSTILE, stopped_by=HOSTILE),)),
        plan=(setting,),
        remains=(HOSTILE,),
        gaps=(Gap(path=HOSTILE, status=HOSTILE, topic=Topic.HOST, detail=HOSTILE),),
    )


ALL = (at_risk, safe, cannot_tell)


def cured() -> CheckResult:
    """The AT_RISK host with its plan in force, as far as settings go."""
    base = at_risk()
    dma, dma32 = base.reserve.zones
    socket = replace(base.users[0].sockets[0], sndbuf_bytes=262_144, rcvbuf_bytes=262_144, capped=True)
    rows = (replace(base.reserve.rows[0], pages=208, measured=True), *base.reserve.rows[1:])
    return replace(
        base,
        host=replace(base.host, taken="2026-11-24T08:00:00Z"),
        verdict=Verdict.SAFE,
        reason="every known way into the deadlock is closed",
        conditions=("the early drop at eth0 stays attached",),
        users=(replace(base.users[0], sockets=(socket,)),),
        findings=tuple(
            one if one.severity is Severity.NOTE else replace(one, state=State.ABSENT)
            for one in base.findings
        ),
        reserve=replace(
            base.reserve,
            need_pages=678,
            exclusive_pages=956,
            rows=rows,
            zones=(replace(dma, min=151, floor=245), replace(dma32, min=1896, floor=711, free=8000)),
        ),
        way=None,
        plan=(),
        gaps=(),
    )
