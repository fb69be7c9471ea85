"""The server of NVMe/TCP and NFS is a kernel's own, so it runs in a second guest on the same wire.

That guest has a stock kernel and the trial's agent, and nothing else: nvmet is told by configfs, nfsd by the caches
that mountd would fill (net/sunrpc/cache.c: a line written to `channel` is an answer, asked for or not). What it serves
lies in its own memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.errors import Lacking
from tidegate.rig.far_side import GUEST, GUEST_MAC, PORTS, STORAGE, STORAGE_FOLDER, STORAGE_MAC, Far
from tidegate.rig.kernels import Kernel, resolve
from tidegate.rig.trial_guest import Guest, Shape, booted
from tidegate.rig.vmlinux import uncompressed

KERNEL = "trixie-cloud"  # always: which server it is shall not be one of the things that differ
NQN = "nqn.2014-08.test.tidegate:disk"
SWAP_FILE = "swap"  # of an NFS export
BOOT_S = 120.0
_OWN_MIB = 224  # what kernel and server take; what is served comes on top
_MODULES = {"nvme-tcp": "nvme-tcp-server", "nfs": "nfs-server", "nfs-mount": "nfs-server"}

_STORE = """\
/bin/mkdir -p /srv
/bin/mount -t tmpfs -o size={size_mib}M srv /srv
"""

_NVME = """\
/bin/mount -t configfs configfs /sys/kernel/config || true
/bin/busybox truncate -s {size_mib}M /srv/disk
cd /sys/kernel/config/nvmet
/bin/mkdir subsystems/{nqn}
echo 1 >subsystems/{nqn}/attr_allow_any_host
/bin/mkdir subsystems/{nqn}/namespaces/1
echo -n /srv/disk >subsystems/{nqn}/namespaces/1/device_path
echo 1 >subsystems/{nqn}/namespaces/1/buffered_io
echo 1 >subsystems/{nqn}/namespaces/1/enable
/bin/mkdir ports/1
echo ipv4 >ports/1/addr_adrfam
echo tcp >ports/1/addr_trtype
echo {address} >ports/1/addr_traddr
echo {port} >ports/1/addr_trsvcid
/bin/busybox ln -s /sys/kernel/config/nvmet/subsystems/{nqn} ports/1/subsystems/{nqn}
"""

# The export's flags: insecure port, async, no subtree check, fsid=0 (include/uapi/linux/nfsd/export.h). Version 3 would
# have to be registered with rpcbind (vs_rpcb_optnl). The grace period is for clients of a server that was there before;
# only a server that could have kept their names (nfs4recover.c) lets one end it.
_NFS = """\
/bin/mkdir -p /var/lib/nfs/v4recovery
/bin/mount -t nfsd nfsd /proc/fs/nfsd
/bin/busybox chmod 777 /srv
printf '%s\\n' 'nfsd {guest} 2147483647 guest' >/proc/net/rpc/auth.unix.ip/channel
printf '%s\\n' 'guest /srv 2147483647 9234 65534 65534 0' >/proc/net/rpc/nfsd.export/channel
printf '%s\\n' 'guest 1 \\x00000000 2147483647 /srv' >/proc/net/rpc/nfsd.fh/channel
echo -3 >/proc/fs/nfsd/versions
echo 10 >/proc/fs/nfsd/nfsv4gracetime
echo tcp {port} >/proc/fs/nfsd/portlist
echo 4 >/proc/fs/nfsd/threads
echo Y >/proc/fs/nfsd/v4_end_grace
"""
# swapon over NFS wants a file without holes: nfs_swap_activate() compares its size to its blocks.
_SWAP_FILE = """\
/bin/busybox fallocate -l {size_mib}M /srv/{file}
/bin/busybox chmod 600 /srv/{file}
"""


def script(far: Far) -> str:
    """What the server's guest runs, by its shell, to serve."""
    parts = {"nvme-tcp": (_STORE, _NVME), "nfs": (_STORE, _SWAP_FILE, _NFS), "nfs-mount": (_STORE, _NFS)}[
        far.transport
    ]
    words = {"address": STORAGE, "guest": GUEST, "port": PORTS[far.transport], "nqn": NQN, "file": SWAP_FILE}
    return "set -e\n" + "".join(part.format(size_mib=far.size_mib, **words) for part in parts)


def shape(far: Far, kernel: Kernel) -> Shape:
    """The server's machine; memory that it never touches costs nothing here."""
    return Shape(
        kernel=kernel,
        image=uncompressed(kernel.vmlinuz),
        nic="virtio-net-pci",
        nic_modules=("virtio_pci", "virtio_net"),
        transport=_MODULES[far.transport],
        memory_mib=storage_mib(far.size_mib),
        mac=STORAGE_MAC,
    )


def storage_mib(size_mib: int) -> int:
    """Memory of a server's machine that serves so much."""
    return _OWN_MIB + size_mib


@contextmanager
def storage_guest(far: Far) -> Iterator[Guest]:
    """The server's guest, from when it serves to the end of the block; the far side's relay must run already.

    Lacking with the guest's reason where it cannot serve, Gone when it does not come up.
    """
    folder = Path(far.folder) / STORAGE_FOLDER
    (Path(far.folder) / "server.log").symlink_to(folder / "console")
    with booted(shape(far, resolve(KERNEL)), folder) as (guest, _command):
        guest.await_ready(time.monotonic() + BOOT_S)
        guest.obey(f"net address={STORAGE} peer={GUEST} mac={GUEST_MAC}")
        data = script(far).encode()
        guest.obey(f"file /tmp/serve.sh {len(data)}", data=data)
        try:
            guest.obey("run /bin/sh /tmp/serve.sh")
        except Lacking:
            time.sleep(0.5)  # the console is another line than the agent's
            raise Lacking(f"{far.transport} server: {guest.last_words()}") from None
        yield guest
