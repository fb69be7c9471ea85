"""What the host's configuration says: kubelet's thresholds, loop devices, the order of shutting down."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tidegate.findings.exposure import graded, graded_why, over_users, swaps, user_evidence
from tidegate.findings.rule import Judgement, Rule, absent, applies, unknown
from tidegate.host.facts import BlockUser, Host, UserKind
from tidegate.result import ChainLink, Cure, Evidence, Reserve, Severity, Shown, Topic

_FSTAB = "etc/fstab"
_FACTORS = {
    (""): 1,
    ("k"): 1e3,
    ("Ki"): 2**10,
    ("M"): 1e6,
    ("Mi"): 2**20,
    ("G"): 1e9,
    ("Gi"): 2**30,
    ("T"): 1e12,
    ("Ti"): 2**40,
}
_KEY = re.compile(r"""^(\s*)["']?([\w.]+)["']?\s*:\s*(.*)$""")
_INLINE = re.compile(r"""memory\.available["']?\s*:\s*["']?([\d.]+\s*(?:%|[kKMGT]i?)?)""")
_AMOUNT = re.compile(r"""^["']?([\d.]+)\s*(%|[kKMGT]i?)?["']?[,\s]*(?:#.*)?$""")
_DEFAULT_THRESHOLD = "100Mi"  # kubelet's own evictionHard for memory.available on Linux
# systemd orders these before shutdown of the network by their type (src/basic/mountpoint-
# util.c:fstype_is_network).
_NETWORK_TYPES = frozenset(
    {
        ("nfs"),
        ("nfs4"),
        ("cifs"),
        ("smb3"),
        ("smbfs"),
        ("ceph"),
        ("9p"),
        ("afs"),
        ("glusterfs"),
        ("gfs2"),
        ("ocfs2"),
    }
)
_ORDERED = ("_netdev", "x-systemd.requires=", "x-systemd.after=", "x-systemd.requires-mounts-for=")


def eviction_thresholds(text: str) -> Iterator[str]:
    """The memory.available thresholds of a kubelet configuration, hard and soft, as written (YAML or
    JSON).
    """
    section_indent: int | None = None
    for line in text.splitlines():
        found = _KEY.match(line)
        if not found:
            continue
        indent, key, rest = len(found[1]), found[2], found[3]
        if key in {"evictionHard", "evictionSoft"}:
            section_indent = indent
            yield from (one.group(1) for one in _INLINE.finditer(rest))
        elif section_indent is not None and indent <= section_indent:
            section_indent = None
        elif section_indent is not None and key == "memory.available":
            yield rest.strip()


def threshold_kib(written: str, total_kib: int) -> int | None:
    """A threshold in kB; a percentage is of all memory. None where it is written in no way that kubelet
    knows.
    """
    found = _AMOUNT.match(written.strip())
    if not found:
        return None
    try:
        amount = float(found[1])
    except ValueError:
        return None
    unit = found[2] or ""
    return int(total_kib * amount / 100) if unit == "%" else int(amount * _FACTORS.get(unit, 1) / 1024)


def _kubelet(host: Host, _reserve: Reserve) -> Judgement:
    configs = {
        path: text
        for path, text in host.texts.items()
        if ("kubelet") in path.lower() and ("ubeletConf") in text
    }
    if not configs:
        return absent("no kubelet configuration was found")
    memory = host.memory
    if memory is None or memory.min_free_kib is None or memory.total_kib is None:
        return unknown("min_free_kbytes or the size of memory was not read")
    for path, text in configs.items():
        written = list(eviction_thresholds(text)) or [_DEFAULT_THRESHOLD]
        amounts = [threshold_kib(one, memory.total_kib) for one in written]
        evidence = (
            Evidence(
                source=path,
                value=(f"memory.available {', '.join(written)}"),
                meaning=("kubelet evicts below"),
            ),
            Evidence(source="proc/sys/vm/min_free_kbytes", value=str(memory.min_free_kib)),
        )
        known = [one for one in amounts if one is not None]
        if not known:
            return unknown(f"the eviction threshold in {path} could not be read", *evidence)
        if max(known) <= memory.min_free_kib:
            return applies(
                f"kubelet evicts below {max(known):,} kB, and the kernel keeps {memory.min_free_kib:,} kB "
                "free: the eviction never comes",
                *evidence,
            )
    return absent("kubelet evicts well above min_free_kbytes", *evidence)


KUBELET_EVICTION = Rule(
    id="kubelet-eviction",
    title="kubelet's eviction threshold is below min_free_kbytes",
    place="host",
    severity=Severity.NOTE,
    argument="Takes a safety net away; what happens then is for the other findings.",
    shown=Shown.REPORT,
    needs=frozenset({Topic.HOST, Topic.MEMORY}),
    judge=_kubelet,
    cure=Cure(
        curable=False,
        instead=("raise evictionHard memory.available above min_free_kbytes, or lower the latter"),
    ),
    mechanism=(
        "kubelet evicts when available memory falls below its threshold. The kernel reclaims and kills to "
        "keep min_free_kbytes free, so a threshold at or below that is never seen. A larger reserve for "
        "network swap can switch evictions off without anybody noticing."
    ),
    functions=("kubernetes pkg/kubelet/eviction", "mm/page_alloc.c:__setup_per_zone_wmarks"),
    reproduce="evictionHard memory.available 50Mi with vm.min_free_kbytes 131072, a pod that eats memory.",
    sources=("kubernetes/kubernetes#131319",),
)


def _loop(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        loops = [part for part in user.chain if part.kind == "loop"]
        if not loops:
            return absent(f"no loop device is in {user.name}", *user_evidence(user))
        return applies(
            graded_why(
                f"{loops[0].name} makes every write of {user.name} a write to a file over the network, "
                "through ordinary page cache",
                user,
            ),
            *(loops[0].evidence or (_loop_evidence(loops[0]),)),
            severity=graded(user),
        )

    return over_users(host, of_user, by_swap=True)


def _loop_evidence(loop: ChainLink) -> Evidence:
    return Evidence(source=f"sys/block/{loop.name}/loop", value=loop.detail or loop.name)


LOOP_OVER_NETWORK = Rule(
    id="loop-over-network",
    title="a loop device over a file on the network",
    place="host",
    severity=Severity.DEADLOCK,
    argument="Swap-out then needs new page cache and an unflagged write: pressure alone suffices.",
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS}),
    judge=_loop,
    cure=Cure(
        curable=False,
        instead=(
            "swapon the file itself where NFS allows it, or use NBD or iSCSI; direct IO on the loop only "
            "lessens it"
        ),
    ),
    mechanism=(
        "The loop driver's worker writes to a file. Each page that is swapped out becomes a dirty page of "
        "that file: a page that must be allocated without the reserve, and sent by a file system whose "
        "sockets are not flagged, because nobody swaps on *it* (sunrpc flags them between swapon and "
        "swapoff only)."
    ),
    functions=("drivers/block/loop.c:loop_process_work", "net/sunrpc/xprtsock.c:xs_enable_swap"),
    reproduce="losetup a file on an NFS mount, mkswap and swapon the loop device, the load of D1.",
    sources=("raspberrypi/firmware#266", "OpenELEC/OpenELEC.tv#1916", "Linux 6.12.117, read"),
)


def _shutdown_order(host: Host, _reserve: Reserve) -> Judgement:
    return over_users(host, lambda user: _order_of(host, user))


def _order_of(host: Host, user: BlockUser) -> Judgement:
    fault = Severity.FAULT
    if user.kind is UserKind.DISK and not swaps(user):
        return absent(f"nothing is mounted or swapped on {user.name}")
    top = user.chain[0].name if user.chain else user.leaf
    for fields in _fstab(host):
        if top not in {fields[0], fields[1]} and f"/dev/{user.leaf}" != fields[0]:
            continue
        evidence = Evidence(source=_FSTAB, value=" ".join(fields))
        if fields[2] in _NETWORK_TYPES:
            return absent(f"systemd knows that {user.name} needs the network by its type", evidence)
        if any(word.startswith(_ORDERED) for word in fields[3].split(",")):
            return absent(f"{user.name} is ordered against the network in fstab", evidence)
        if user.kind is UserKind.SWAPFILE:
            return absent(f"the unit of {user.name} requires the mount of its file", evidence)
        return applies(
            f"{user.name} is in fstab without _netdev: at shutdown the network may go before it, and "
            "swapoff or umount then waits for ever",
            evidence,
            severity=fault,
        )
    for path, text in host.texts.items():
        if path.endswith((".swap", ".mount")) and f"What={top}" in text:
            evidence = Evidence(source=path, value=f"What={top}")
            if "network" in text or "remote-fs" in text or "_netdev" in text:
                return absent(f"the unit of {user.name} is ordered against the network", evidence)
            return applies(
                (f"the unit of {user.name} is not ordered against the network"), evidence, severity=fault
            )
    why = f"{user.name} is in no fstab or unit that was read: what ends it at shutdown is not known"
    return unknown(why, *user_evidence(user), severity=fault)


def _fstab(host: Host) -> Iterator[list[str]]:
    for line in host.texts.get(_FSTAB, "").splitlines():
        fields = line.split()
        if len(fields) >= 4 and not line.lstrip().startswith("#"):
            yield fields


SHUTDOWN_ORDER = Rule(
    id="shutdown-order",
    title="at shutdown the network goes before swapoff",
    place="host",
    severity=Severity.FAULT,
    argument="Needs a shutdown, which takes the connection away.",
    shown=Shown.REPORT,
    needs=frozenset({Topic.USERS, Topic.HOST}),
    judge=_shutdown_order,
    cure=Cure(
        curable=False,
        instead=(
            "_netdev in fstab (for swap: a systemd that knows it, or x-systemd.after= the unit that connects)"
        ),
    ),
    mechanism=(
        "swapoff reads everything back before it returns. Where nothing orders it before the network, or "
        "before the daemon that serves the connection, is stopped, those reads have no server any more "
        "and the shutdown hangs; with dirty pages of a network disk the same happens at umount."
    ),
    functions=("mm/swapfile.c:try_to_unuse", "systemd src/fstab-generator/fstab-generator.c"),
    reproduce="A line for /dev/nbd0 in fstab without _netdev, swap in use, systemctl poweroff.",
    sources=("systemd/systemd#28363", "systemd/systemd#41539", "NetworkBlockDevice/nbd#55"),
    condition="while nobody takes the network down before swapoff and umount of {subjects}",
)

RULES = (KUBELET_EVICTION, LOOP_OVER_NETWORK, SHUTDOWN_ORDER)
