"""Programs in the path of block IO: what serves it, what reconnects it, and a server on this same machine."""

from __future__ import annotations

from tidegate.findings.exposure import over_users, swaps, user_evidence
from tidegate.findings.rule import Judgement, Rule, absent, applies, unknown
from tidegate.host.facts import BlockUser, Host
from tidegate.result import Cure, Reserve, Severity, Shown, Topic


def _d14(host: Host, _reserve: Reserve) -> Judgement:
    return over_users(host, _d14_of, none="nobody is concerned")


def _d14_of(user: BlockUser) -> Judgement:
    severity = Severity.DEADLOCK if user.writable or swaps(user) else Severity.STALL
    local = any(route.local for route in user.routes) or user.server_local
    evidence = (*user_evidence(user), *((user.server_evidence,) if user.server_evidence else ()))
    if local:
        less = (
            ""
            if severity is Severity.DEADLOCK
            else "; it is read only, so freeing memory does not wait for it"
        )
        return applies(
            f"the server of {user.name} runs on this machine: it needs memory to free memory{less}",
            *evidence,
            severity=severity,
        )
    if user.server_local is None and not user.routes:
        return unknown(
            f"where the server of {user.name} runs could not be told", *evidence, severity=severity
        )
    return absent(f"the server of {user.name} is another machine", *evidence)


D14 = Rule(
    id="D14",
    title="the server runs on the machine that it serves",
    place="daemon",
    severity=Severity.DEADLOCK,
    argument=(
        "Pressure alone suffices, for a mount without swap too: dirty pages wait for a server that waits "
        "for memory, and killing others frees nothing that the writes hold."
    ),
    shown=Shown.REPORT,
    needs=frozenset({Topic.USERS, Topic.NETWORK, Topic.SOCKETS, Topic.DAEMONS}),
    judge=_d14,
    cure=Cure(
        curable=False,
        instead=(
            "move the server to another machine; PR_SET_IO_FLUSHER, locked memory, memory.min and "
            "O_DIRECT for the server lower the odds only"
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

RULES = (D14,)
