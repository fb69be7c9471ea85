"""Programs in the path of block IO: what serves it, what reconnects it, and a server on this same machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tidegate.findings.exposure import NO_USERS, one_answer, over_users, swaps, user_evidence
from tidegate.findings.rule import Judgement, Rule, absent, applies, unknown
from tidegate.host.facts import BlockUser, Daemon, Host, Thread, Transport
from tidegate.result import Cure, Evidence, Reserve, Severity, Shown, Topic
from tidegate.setting_ids import IO_FLUSHER, of

# PR_SET_IO_FLUSHER sets PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE on the calling thread (kernel/sys.c, since 5.6).
IO_FLUSHER_FLAGS = 0x00080000 | 0x00100000

# VmRSS counts the vDSO, which cannot be locked, and is off by a batch of pages a CPU (mm_counter, percpu
# since 6.2):
# an iscsid under mlockall shows 15,796 kB locked of 15,804 kB.
_UNLOCKABLE_KIB = 256

_SERVING = frozenset({"serves", "proxy"})
_HELPING = frozenset({"reconnects", "path-manager"})
# Their reconnection is done by a program; nvme-tcp and sunrpc do it in the kernel.
_RECONNECTED_FROM_OUTSIDE = frozenset({Transport.NBD, Transport.ISCSI})
# Programs that set the flag in current releases, so that none on a thread is a defect, not an age.
_SETS_IO_FLUSHER = ("iscsid", "multipathd", "tcmu-runner", "juicefs", "rublk", "ublk", "io-engine", "rbd-nbd")
_NEEDS = frozenset({Topic.USERS, Topic.DAEMONS})
_START = (
    "start it with PR_SET_IO_FLUSHER set (it is inherited over fork and exec, so a wrapper can), memory "
    "locked (mlockall), OOMScoreAdjust=-1000; nothing can set the flag on a running program from outside"
)


def flushes(thread: Thread) -> bool | None:
    """The thread runs under PR_SET_IO_FLUSHER; None when its flags were not read."""
    return None if thread.flags is None else thread.flags & IO_FLUSHER_FLAGS == IO_FLUSHER_FLAGS


def all_flush(daemon: Daemon) -> bool | None:
    """Every thread runs under PR_SET_IO_FLUSHER; None when that cannot be told."""
    states = [flushes(thread) for thread in daemon.threads]
    if False in states:
        return False
    return None if None in states or not states else True


def is_locked(daemon: Daemon) -> bool | None:
    """All that is resident is locked, so that no page of it can be taken away; None when not read."""
    if daemon.locked_kib is None:
        return None
    slack_kib = max(_UNLOCKABLE_KIB, (daemon.resident_kib or 0) // 20)
    return daemon.locked_kib > 0 and daemon.locked_kib + slack_kib >= (daemon.resident_kib or 0)


def daemon_evidence(daemon: Daemon) -> tuple[Evidence, ...]:
    """A program's flags by thread and its locked memory."""
    flags = ", ".join(_flags(thread) for thread in daemon.threads[:4]) or "no thread read"
    return (
        Evidence(
            source=f"proc/{daemon.pid}/task/*/stat",
            value=flags,
            meaning=f"PF_ flags of {daemon.comm}; IO_FLUSHER is {IO_FLUSHER_FLAGS:#x}",
        ),
        Evidence(
            source=f"proc/{daemon.pid}/status",
            value=f"VmLck {_kib(daemon.locked_kib)}, VmRSS {_kib(daemon.resident_kib)}",
            meaning=f"locked memory of {daemon.comm}",
        ),
    )


def _flags(thread: Thread) -> str:
    return f"{thread.comm} {'not read' if thread.flags is None else f'{thread.flags:#x}'}"


def _kib(amount_kib: int | None) -> str:
    return "not read" if amount_kib is None else f"{amount_kib} kB"


def _protected(daemon: Daemon) -> bool | None:
    states = (all_flush(daemon), is_locked(daemon))
    if False in states:
        return False
    return None if None in states else True


def _lacks(daemon: Daemon) -> str:
    lacking = []
    if all_flush(daemon) is False:
        lacking.append("is not under IO_FLUSHER in every thread")
    if is_locked(daemon) is False:
        lacking.append("has not locked its memory")
    return f"{daemon.comm} ({daemon.pid}) {' and '.join(lacking)}"


def _in_path(daemons: Iterable[Daemon]) -> list[Daemon]:
    """Programs that stand in the path of some block user, without iscsid's own log process.

    iscsid forks that one before it locks its memory (usr/log.c:log_init); messages it cannot take are
    dropped.
    """
    found = [one for one in daemons if one.users]
    main = [one for one in found if one.comm == "iscsid" and _protected(one)]
    return [one for one in found if not main or one.comm != "iscsid" or one in main]


def _flusher_cure(daemon: Daemon) -> Cure:
    return Cure(settings=(of(IO_FLUSHER, daemon.comm),), curable=False, instead=_START)


def _d9_serving(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        severity = Severity.DEADLOCK if user.writable or swaps(user) else Severity.STALL
        serving = [one for one in host.daemons if user.name in one.users and one.role in _SERVING]
        if not serving:
            if user.userspace:
                what = ", ".join(user.userspace)
                return unknown(f"{user.name} is served by {what}, which was not seen", severity=severity)
            return absent(f"the kernel itself serves {user.name}", *user_evidence(user))
        answers = [_serving(one, user, severity) for one in serving]
        return one_answer(answers, none="")

    return over_users(host, of_user)


def _serving(daemon: Daemon, user: BlockUser, severity: Severity) -> Judgement:
    subjects = (user.name, daemon.comm)
    evidence = daemon_evidence(daemon)
    protected = _protected(daemon)
    if protected is None:
        why = f"flags or locked memory of {daemon.comm} ({daemon.pid}) were not read"
        return unknown(why, *evidence, subjects=subjects, severity=severity)
    if protected:
        return absent(f"{daemon.comm} runs under IO_FLUSHER with its memory locked", *evidence)
    return applies(
        f"{_lacks(daemon)}, and serves {user.name}: to free memory the kernel waits for it, and it may "
        "wait for memory",
        *evidence,
        subjects=subjects,
        severity=severity,
        cure=_flusher_cure(daemon),
    )


D9_SERVING = Rule(
    id="D9-serving",
    title="a program that serves block IO can be stopped by reclaim",
    place="daemon",
    severity=Severity.DEADLOCK,
    argument=(
        "Pressure alone suffices and it was reported so many times; without swap too, since the dirty "
        "pages that reclaim waits for are the program's own to write."
    ),
    shown=Shown.REPORT,
    needs=_NEEDS,
    judge=_d9_serving,
    cure=Cure(curable=False, instead=_START),
    mechanism=(
        "FUSE and ublk servers, qemu-nbd, nbdkit, rbd-nbd and TLS proxies are ordinary programs. When one "
        "of them allocates, or touches a page of its own that was taken away, it may enter reclaim and "
        "wait for the very device that it serves. IO_FLUSHER keeps its allocations from starting IO and "
        "bounds its throttling to one second; locked memory keeps its own pages. Neither gives it the "
        "reserve: its sockets stay unflagged (D11)."
    ),
    functions=(
        "kernel/sys.c:prctl (PR_SET_IO_FLUSHER)",
        "include/linux/sched/mm.h:current_gfp_context",
        "mm/vmscan.c:throttle_direct_reclaim",
    ),
    reproduce="nbdkit behind /dev/nbd0 on the same host, or a FUSE mount, write more than memory through it.",
    sources=(
        "Linux kernel commit 8d19f1c8e193 (in v5.6)",
        "open-iscsi PR #270, openebs/mayastor#1911, juicedata/juicefs#6144, c0deJedi/nbd-vram",
    ),
)


def _d9_reconnect(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        helpers = [one for one in _in_path(host.daemons) if user.name in one.users and one.role in _HELPING]
        if not helpers:
            if user.transport in _RECONNECTED_FROM_OUTSIDE:
                return applies(
                    f"no program that would connect {user.name} again is running",
                    *user_evidence(user),
                    severity=Severity.FAULT,
                    cure=Cure(curable=False, instead=_START),
                )
            return absent(f"{user.name} needs no program to connect again", *user_evidence(user))
        return one_answer([_helping(one, user) for one in helpers], none="")

    return over_users(host, of_user)


def _helping(daemon: Daemon, user: BlockUser) -> Judgement:
    protected = _protected(daemon)
    evidence, subjects = daemon_evidence(daemon), (user.name, daemon.comm)
    if protected is None:
        why = f"flags or locked memory of {daemon.comm} ({daemon.pid}) were not read"
        return unknown(why, *evidence, subjects=subjects, severity=Severity.FAULT)
    if protected:
        why = f"{daemon.comm} is ready to connect {user.name} again"
        return replace(absent(why, *evidence), severity=Severity.FAULT)
    return applies(
        f"{_lacks(daemon)}: when the connection of {user.name} is lost, what would restore it waits for "
        "memory",
        *evidence,
        subjects=subjects,
        severity=Severity.FAULT,
        cure=_flusher_cure(daemon),
    )


D9_RECONNECT = Rule(
    id="D9-reconnect",
    title="a lost connection comes back only through user space",
    place="daemon",
    severity=Severity.FAULT,
    argument="Needs the connection to be lost first.",
    shown=Shown.SOURCE,
    needs=_NEEDS,
    judge=_d9_reconnect,
    cure=Cure(curable=False, instead=_START),
    mechanism=(
        "nbd-client, iscsid and multipathd restore what the kernel cannot. They fault, allocate with "
        "GFP_KERNEL, and use sockets without SOCK_MEMALLOC, so that marked answers to their log-in are "
        "dropped. Only sunrpc connects again under PF_MEMALLOC; nvme-tcp does it in the kernel without."
    ),
    functions=(
        "drivers/block/nbd.c:nbd_reconnect_socket",
        "drivers/scsi/iscsi_tcp.c:iscsi_sw_tcp_conn_bind",
        "net/sunrpc/xprtsock.c:xs_tcp_setup_socket",
    ),
    reproduce=(
        "Cut the TCP connection on the server under load (nbd-client -persist, or a dead-connection timeout)."
    ),
    sources=("open-iscsi/open-iscsi#269, #270", "opensvc/multipath-tools#82", "Linux 6.12.117, read"),
    condition="while the connection of {subjects} holds, since only user space can restore it",
)


def _d14(host: Host, _reserve: Reserve) -> Judgement:
    return over_users(host, _d14_of)


def _d14_of(user: BlockUser) -> Judgement:
    severity = Severity.DEADLOCK if user.writable or swaps(user) else Severity.STALL
    local = any(route.local for route in user.routes) or user.server_local
    evidence = (*((user.server_evidence,) if user.server_evidence else ()), *user_evidence(user))
    if local:
        mild = "; it is read only, so freeing memory does not wait for it"
        return applies(
            f"the server of {user.name} runs on this machine: it needs memory to free memory"
            + (mild if severity is Severity.STALL else ""),
            *evidence,
            severity=severity,
        )
    if user.server_local is None:
        why = f"whether the server of {user.name} runs on this machine could not be told"
        return unknown(why, *evidence, severity=severity)
    return absent(f"the server of {user.name} is another machine", *evidence)


D14 = Rule(
    id="D14",
    title="the server runs on the machine that it serves",
    place="daemon",
    severity=Severity.DEADLOCK,
    argument=(
        "Pressure alone suffices, for a mount without swap too: dirty pages wait for a server that waits for "
        "memory, and killing others frees nothing that the writes hold."
    ),
    shown=Shown.REPORT,
    needs=frozenset({Topic.USERS, Topic.NETWORK, Topic.SOCKETS, Topic.DAEMONS}),
    judge=_d14,
    cure=Cure(
        curable=False,
        instead=(
            "move the server to another machine; IO_FLUSHER, locked memory, memory.min and O_DIRECT for "
            "the server lower the odds only"
        ),
    ),
    mechanism=(
        "Over loopback the mark of a reserve buffer is cleared on transmit, so that the packet is not "
        "dropped, and the pages stay in the server's receive queue until the server runs. The server "
        "needs memory of its own to serve: where that is swapped out, or reclaim waits for the very "
        "device it serves, it never runs. The same holds for a container or a guest of this host, and for "
        "a kernel target over loopback."
    ),
    functions=(
        "net/ipv4/tcp_output.c:__tcp_transmit_skb",
        "drivers/net/loopback.c:loopback_xmit",
        "mm/vmscan.c:throttle_direct_reclaim",
    ),
    reproduce=(
        "Run the NBD server on 127.0.0.1 in the guest, swapon its device, write more memory than there is."
    ),
    sources=(
        "Linux 6.12.117, read",
        "N. Brown 2014, loop-back NFS mounts (Message-ID 20140416033623.10604.69237.stgit@notabene.brown)",
        "nbd README: client and server on one machine; Red Hat Ceph Storage guide: clients on OSD nodes",
        "mount_nfs(8) of NetBSD: fundamentally prone to deadlock",
    ),
)


def _worst_for(host: Host, daemon: Daemon) -> Severity:
    """How bad it is when this program stands still."""
    served = [user for user in host.users if user.name in daemon.users]
    if daemon.role in _SERVING and any(user.writable or swaps(user) for user in served):
        return Severity.DEADLOCK
    return Severity.STALL if daemon.role in _SERVING else Severity.FAULT


def _io_flusher_inverted(host: Host, _reserve: Reserve) -> Judgement:
    if not host.users:
        return replace(absent(NO_USERS), rests_on=frozenset({Topic.USERS}))
    none = "every program in the path has the flag on all of its threads, or never meant to"
    return one_answer([_inverted(host, one) for one in _in_path(host.daemons)] or [absent(none)], none=none)


def _inverted(host: Host, daemon: Daemon) -> Judgement:
    states = [flushes(thread) for thread in daemon.threads]
    severity = _worst_for(host, daemon)
    subjects, evidence = (daemon.comm, *daemon.users), daemon_evidence(daemon)
    means_to = daemon.comm.startswith(_SETS_IO_FLUSHER)
    if False in states and (True in states or means_to):
        lacking = [thread.comm for thread in daemon.threads if flushes(thread) is False]
        only = "only some threads have" if True in states else "no thread has"
        return applies(
            f"{daemon.comm} ({daemon.pid}) is to run under IO_FLUSHER, and {only} it: "
            f"{', '.join(lacking[:4])} lack it",
            *evidence,
            subjects=subjects,
            severity=severity,
            cure=_flusher_cure(daemon),
        )
    if None in states or (means_to and not states):
        why = f"the flags of {daemon.comm} ({daemon.pid}) were not all read"
        return unknown(why, *evidence, subjects=subjects, severity=severity)
    return replace(absent(f"{daemon.comm} has the flag on all threads or none", *evidence), severity=severity)


IO_FLUSHER_INVERTED = Rule(
    id="io-flusher-inverted",
    title="a program clears IO_FLUSHER, or sets it on some threads only",
    place="daemon",
    severity=Severity.DEADLOCK,
    argument=(
        "The same circle as D9-serving where the program serves; a reconnecting helper needs a fault first."
    ),
    shown=Shown.REPORT,
    needs=_NEEDS,
    judge=_io_flusher_inverted,
    cure=Cure(curable=False, instead=_START),
    mechanism=(
        "prctl(PR_SET_IO_FLUSHER) takes a state: two libraries passed 0 for years and so cleared it; in a "
        "third a missing include compiled the call away. It also holds for the calling thread only: "
        "threads made before the call are without. Field 9 of each thread's stat shows what is: 0x180000 "
        "set, or not."
    ),
    functions=("kernel/sys.c:prctl (PR_SET_IO_FLUSHER)",),
    reproduce="Start a ublk server built with libublk before July 2026 and read /proc/PID/task/*/stat.",
    sources=("ublk-org/libublk-rs#54, #55", "ublk-org/ublksrv#195", "portworx/px-fuse#165"),
    condition="while {subjects} need not act: its IO_FLUSHER flag is not as it is meant",
)


def _exe_on_device(host: Host, _reserve: Reserve) -> Judgement:
    if not host.users:
        return replace(absent(NO_USERS), rests_on=frozenset({Topic.USERS}))
    none = "no program in the path lives on what it serves"
    return one_answer([_exe_on(host, one) for one in _in_path(host.daemons)] or [absent(none)], none=none)


def _exe_on(host: Host, daemon: Daemon) -> Judgement:
    severity = _worst_for(host, daemon)
    subjects = (daemon.comm, *daemon.users)
    place = Evidence(
        source=f"proc/{daemon.pid}/exe",
        value=f"device {daemon.exe_device or 'not read'}",
        meaning=daemon.exe_on_user or "on no network device",
    )
    if daemon.exe_on_user is None:
        if daemon.exe_device is None:
            why = f"where the binary of {daemon.comm} ({daemon.pid}) lives was not read"
            return unknown(why, place, subjects=subjects, severity=severity)
        return replace(absent(f"{daemon.comm} lives on a local device", place), severity=severity)
    locked = is_locked(daemon)
    if locked:
        return replace(absent(f"{daemon.comm} has all of its pages locked", place), severity=severity)
    if locked is None:
        why = f"{daemon.comm} lives on {daemon.exe_on_user}; whether its pages are locked was not read"
        return unknown(why, place, subjects=subjects, severity=severity)
    return applies(
        f"the binary of {daemon.comm} ({daemon.pid}) lives on {daemon.exe_on_user}: to run it its pages "
        "may have to be read through what it must keep running",
        place,
        *daemon_evidence(daemon),
        subjects=subjects,
        severity=severity,
        cure=_flusher_cure(daemon),
    )


EXE_ON_DEVICE = Rule(
    id="exe-on-device",
    title="a program in the path lives on the device it keeps running",
    place="daemon",
    severity=Severity.DEADLOCK,
    argument="Its text is clean page cache, the first to go under pressure; a helper needs a fault first.",
    shown=Shown.INFERRED,
    needs=_NEEDS,
    judge=_exe_on_device,
    cure=Cure(
        curable=False,
        instead=("put the program on a local file system or in the initramfs, or lock its memory"),
    ),
    mechanism=(
        "A program's text and data are page cache that reclaim takes away without writing. When the "
        "program must act, the page fault reads them back, through the very device or mount that waits "
        "for the program. mlockall keeps them."
    ),
    functions=("mm/filemap.c:filemap_fault", "mm/mlock.c:mlockall"),
    reproduce="Root file system on iSCSI, iscsid started from it, cut the connection under memory pressure.",
    sources=("inference from mm/filemap.c", "Overv/vramfs#31"),
    condition="while {subjects} need not act: the program lives on what it keeps running",
)

RULES = (D9_SERVING, D9_RECONNECT, D14, IO_FLUSHER_INVERTED, EXE_ON_DEVICE)
