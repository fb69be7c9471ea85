"""A record of a trial's own guest: the same kernel, initramfs, NIC, memory and connections, no load and no storm.

The guest of a trial holds busybox only, so a Debian root with Python is mounted beside it from read-only disks, and
`tidegate record` runs there in a chroot. The modules that those disks need are not in the initramfs: it is the one of
the trial, byte for byte, since its size moves min_free_kbytes (init_per_zone_wmark_min() runs before free_initrd_mem()
gives its pages to the zone). They come over the serial line, and what they take is no number of the record. The disks
are plugged in after the boot: the firmware keeps pages for every disk it finds, which moved tcp_mem by a page.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import Lacking
from tidegate.host.archive import from_files, save_record
from tidegate.rig import disks
from tidegate.rig.connecting import connect
from tidegate.rig.initramfs import JOB_DISK, MODULES_DISK, OUT_DISK, ROOT_DISK, module_bytes
from tidegate.rig.kernels import Debian, needed_modules
from tidegate.rig.monitor import Monitor
from tidegate.rig.places import guest_folder
from tidegate.rig.tools import cache_directory, locked
from tidegate.rig.trial_guest import Guest, Shape, booted, initramfs, module_paths
from tidegate.units import MIB

if TYPE_CHECKING:
    from tidegate.rig.tried import Tried

Tell = Callable[[str], None]
Maker = Callable[["Tried", Tell], Mapping[str, bytes]]

RECORD_MODULES = ("virtio_blk", "squashfs", "overlay")
ROOT_OF = Debian.TRIXIE  # whatever the kernel: only Python and modprobe of it are used
_BOOT_S = 180.0
_RECORD_S = 500.0  # Python under emulation, beside other trials
_OUT_MIB = 64
_CHUNK_BYTES = 16 * 1024  # n_tty drops what comes while 64 KiB wait for the reader

# sock_diag's modules are asked for by the kernel on a host; here /sbin/modprobe is only below /new.
_SCRIPT = f"""\
set -eu
b=/bin/busybox
$b mkdir -p /early
cat /tmp/early.* | $b gunzip | $b tar -x -C /early
rm /tmp/early.*
while read -r module; do $b insmod /early/$module; done </early/order
rm -r /early
disk() {{
    tries=0
    while [ $tries -lt 100 ]; do
        for entry in /sys/block/vd*; do
            serial=$(cat $entry/serial 2>/dev/null || true)
            if [ "$serial" = "$1" ]; then echo /dev/$(basename $entry); return; fi
        done
        tries=$((tries + 1)); $b usleep 100000
    done
    echo "tidegate-rig: no disk $1" >&2; return 1
}}
root=$(disk {ROOT_DISK}) job=$(disk {JOB_DISK}) modules=$(disk {MODULES_DISK}) out=$(disk {OUT_DISK})
mkdir -p /lower /over /new
mount -t squashfs -o ro $root /lower
mount -t tmpfs over /over
mkdir /over/upper /over/work
mount -t overlay -o lowerdir=/lower,upperdir=/over/upper,workdir=/over/work root /new
mkdir -p /new/job /new/out /new/usr/lib/modules
mount -t squashfs -o ro $job /new/job
mount -t squashfs -o ro $modules /new/usr/lib/modules
for place in proc sys dev; do mount -o rbind /$place /new/$place; done
for family in netlink raw inet tcp udp unix af_packet; do
    chroot /new /usr/sbin/modprobe -q ${{family}}_diag || true
done
chroot /new /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb \\
    PYTHONPATH=/job/src:{disks.LIBRARIES_PATH} PYTHONDONTWRITEBYTECODE=1 \\
    python3 -m tidegate record /out/record
tar -C /new/out/record -cf $out .
sync
"""


def record_path(tried: Tried, tell: Tell, *, maker: Maker | None = None) -> Path:
    """The record of a trial's guest, as a file that `--host` takes; made once for the same guest and the same code.

    Lacking where this machine cannot make it (a program, or the guest has too little memory for Python).
    """
    with locked(cache_directory() / "trial-records" / record_key(tried)) as folder:
        kept = folder / f"{tried.trial.kernel.rpartition('/')[2]}-{tried.trial.nic}.tar.xz"
        if not kept.exists():
            tell("takes a record inside the guest")
            record = from_files(str(kept), (maker or _taken)(tried, tell))
            save_record(record, kept, force=True)
        return kept


def record_key(tried: Tried) -> str:
    """What the record depends on, as a short hash: another arm, seed or storm is the same guest."""
    trial, shape = tried.trial, tried.shape
    told = [
        tried.kernel.vmlinuz_sha256, tried.kernel.package_sha256, initramfs(shape).name, shape.append, trial.nic,
        trial.transport, trial.memory_mib, trial.cpus, trial.nodes, trial.connections, trial.swap_mib, trial.ring,
        trial.memcg_mib, sorted(trial.sysctl.items()),
        [(str(one.kind), one.sockets, one.rcvbuf_bytes) for one in trial.traffic], _code(),
    ]  # fmt: skip
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _code() -> str:
    """The code that reads a host, and this module: a reader that sees more makes another record."""
    here = Path(__file__).resolve()
    digest = hashlib.sha256()
    for path in [here, *sorted((here.parent.parent / "host").rglob("*.py"))]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _taken(tried: Tried, tell: Tell) -> dict[str, bytes]:
    """Boots the guest, sets it up as a trial does and hands over what was recorded, by path."""
    from tidegate.rig import measures, one_trial, storm
    from tidegate.rig import tried as looked_up
    from tidegate.rig.wire import far_side

    with guest_folder(looked_up.memory_mib(tried)) as folder:
        shape = _with_disks(tried.shape, folder)
        with far_side(looked_up.far_of(tried, folder)) as side, booted(shape, folder) as (guest, _):
            guest.await_ready(time.monotonic() + _BOOT_S)
            one_trial.network(guest)
            measures.set_always(guest, tried.trial.sysctl)
            connect(guest, tried.trial, ())
            storm.sinks(guest, tried.trial)
            _plug_in(guest, shape)
            tell("records")
            _run(guest, shape)
            side.order("stats")
        return _handed_over(folder / "out.disk")


def _with_disks(shape: Shape, folder: Path) -> Shape:
    from dataclasses import replace

    with (folder / "out.disk").open("wb") as file:
        file.truncate(_OUT_MIB * MIB)
    (folder / "job").mkdir()
    job = disks.job_image(folder / "job", {}, folder / "job.squashfs")
    return replace(
        shape,
        gdb=False,
        disks=(
            (ROOT_DISK, disks.root_image(ROOT_OF), True),
            (MODULES_DISK, disks.modules_image(shape.kernel), True),
            (JOB_DISK, job, True),
            (OUT_DISK, folder / "out.disk", False),
        ),
    )


def _plug_in(guest: Guest, shape: Shape) -> None:
    with contextlib.closing(Monitor(guest.qmp_line)) as monitor:
        for name, _, _ in shape.disks:
            monitor.ask("device_add", driver="virtio-blk-pci", id=f"{name}-device", drive=name, serial=name)


def _run(guest: Guest, shape: Shape) -> None:
    data = _early(shape)
    for number, at in enumerate(range(0, len(data), _CHUNK_BYTES)):
        chunk = data[at : at + _CHUNK_BYTES]
        guest.obey(f"file /tmp/early.{number:03} {len(chunk)}", data=chunk)
    script = _SCRIPT.encode()
    guest.obey(f"file /tmp/record.sh {len(script)}", data=script)
    try:
        guest.obey("run /bin/sh /tmp/record.sh", timeout_s=_RECORD_S)
    except Lacking as trouble:
        time.sleep(0.5)  # the console is another line than the agent's
        raise Lacking(
            f"record inside the guest of {shape.memory_mib} MiB: {trouble}: {guest.last_words()}"
        ) from None


def _early(shape: Shape) -> bytes:
    """The modules that the disks need and that the initramfs does not hold, as a packed tar with their order."""
    wanted = needed_modules((shape.kernel.modules / "modules.dep").read_text(), RECORD_MODULES)
    held = set(module_paths(shape))
    files = {
        Path(path).name: module_bytes(shape.kernel.modules / path) for path in wanted if path not in held
    }
    files = {name.removesuffix(".xz").removesuffix(".zst"): data for name, data in files.items()}
    files["order"] = "".join(f"{name}\n" for name in files).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)


def _handed_over(disk: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with disk.open("rb") as raw, tarfile.open(fileobj=io.BufferedReader(raw), mode="r:") as tar:
            for member in tar:
                held = tar.extractfile(member) if member.isfile() else None
                if held is not None:
                    files[member.name.removeprefix("./")] = held.read()
    except tarfile.TarError as trouble:
        raise Lacking(f"record inside the guest: handed over no whole archive ({trouble})") from None
    return files
