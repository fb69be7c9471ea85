"""The block user of a trial's guest: connected and put to use, one function a transport.

Nothing stays in the guest that could make a dropped connection anew: no nbd-client -persist, no iscsid. A connection
that is reset stays down until the kernel itself gives up or reconnects (nvme_tcp and NFS do).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tidegate.case_trial import Trial
from tidegate.errors import Unsupported
from tidegate.rig.far_side import GUEST, PORTS, SERVER, STORAGE, STORAGE_MAC
from tidegate.rig.kernels import Kernel, all_modules
from tidegate.rig.servers import TARGET
from tidegate.rig.storage_guest import NQN, SWAP_FILE
from tidegate.rig.trial_guest import TRANSPORT_MODULES, Guest

NFS_FOLDER = "/mnt"  # where the agent mounts it


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """How one transport is used."""

    port: int  # of the server
    modules: tuple[str, ...]  # that the guest loads
    server: str  # the program, with Debian's package where it is another word
    device: str  # what becomes swap, or is mounted
    connect: Callable[[Guest, Trial, str], None]  # with words for the agent
    own_socket: bool  # the agent makes the socket, so that the words for it hold
    folder: str = ""  # the load writes files below it, and there is no swap


def connect(guest: Guest, trial: Trial, words: Sequence[str]) -> None:
    """Connects the guest and puts the device to use. Lacking with the guest's reason where it cannot be."""
    transport = transport_of(trial)
    more = [f"memory_max={trial.memcg_mib}", "cgroup=1"] if trial.memcg_mib else []
    transport.connect(guest, trial, " ".join([*words, *more]))


def transport_of(trial: Trial) -> Transport:
    """The entry of TRANSPORTS; Unsupported where there is none."""
    try:
        return TRANSPORTS[trial.transport]
    except KeyError:
        raise Unsupported(f"transport {trial.transport}: expected one of {', '.join(TRANSPORTS)}") from None


# 6.14 has the algorithm in its library; before it iscsi_sw_tcp_conn_create() wants the module.
_OR_ELSEWHERE = ("crc32c_generic",)


def check_transport(kernel: Kernel, trial: Trial) -> Transport:
    """The trial's transport; Unsupported where there is no such one, or the kernel lacks a module of it."""
    transport = transport_of(trial)
    there = all_modules(kernel)
    for name in transport.modules:
        if name not in there and name not in _OR_ELSEWHERE:
            raise Unsupported(f"transport {trial.transport}: kernel {kernel.release} has no module {name}")
    return transport


def _nbd(guest: Guest, trial: Trial, words: str) -> None:
    guest.obey(f"nbd address={SERVER} port={PORTS[trial.transport]} connections={trial.connections} {words}")
    _swap(guest, "/dev/nbd0")


def _iscsi(guest: Guest, trial: Trial, words: str) -> None:
    """One session; recovery of it would need iscsid, which is not there: a dropped connection stays down."""
    guest.obey(f"iscsi target={TARGET} address={SERVER} port={PORTS[trial.transport]} {words}")
    _swap(guest, "/dev/sda")


def _nvme(guest: Guest, trial: Trial, words: str) -> None:
    """nvme_tcp connects again by itself, for as long as ctrl_loss_tmo has it (600 s)."""
    _storage(guest)
    port, queues = PORTS[trial.transport], trial.connections
    guest.obey(f"nvme address={STORAGE} port={port} nqn={NQN} queues={queues} {words}")
    _swap(guest, "/dev/nvme0n1")


def _nfs(guest: Guest, trial: Trial, words: str) -> None:
    """A swap file on an NFS mount: its socket is a memalloc one from swapon on (rpc_clnt_swap_activate)."""
    _nfs_mount(guest, trial, words)
    _swap(guest, f"{NFS_FOLDER}/{SWAP_FILE}")


def _nfs_mount(guest: Guest, trial: Trial, words: str) -> None:
    """A mount whose files the load writes; nothing of it is a memalloc socket."""
    _storage(guest)
    options = f"vers=4.2,proto=tcp,hard,sec=sys,nconnect={trial.connections}"
    guest.obey(f"nfs address={STORAGE} client={GUEST} options={options} {words}")


def _storage(guest: Guest) -> None:
    """The server is a guest beside the far side (storage_guest.py)."""
    guest.obey(f"neighbour peer={STORAGE} mac={STORAGE_MAC}")


def _swap(guest: Guest, device: str) -> None:
    guest.obey(f"run /bin/mkswap {device}")
    guest.obey(f"swapon {device}")


def _entry(
    name: str,
    server: str,
    device: str,
    how: Callable[[Guest, Trial, str], None],
    *,
    own_socket: bool,
    folder: str = "",
) -> Transport:
    return Transport(
        port=PORTS[name],
        modules=TRANSPORT_MODULES[name],
        server=server,
        device=device,
        connect=how,
        own_socket=own_socket,
        folder=folder,
    )


TRANSPORTS: Mapping[str, Transport] = {
    "nbd": _entry("nbd", "nbdkit", "/dev/nbd0", _nbd, own_socket=True),
    "qemu-nbd": _entry("qemu-nbd", "qemu-nbd (qemu-utils)", "/dev/nbd0", _nbd, own_socket=True),
    "iscsi": _entry("iscsi", "tgtd (tgt)", "/dev/sda", _iscsi, own_socket=True),
    "nvme-tcp": _entry("nvme-tcp", "nvmet in a guest", "/dev/nvme0n1", _nvme, own_socket=False),
    "nfs": _entry("nfs", "nfsd in a guest", f"{NFS_FOLDER}/{SWAP_FILE}", _nfs, own_socket=False),
    "nfs-mount": _entry(
        "nfs-mount", "nfsd in a guest", NFS_FOLDER, _nfs_mount, own_socket=False, folder=NFS_FOLDER
    ),
}
