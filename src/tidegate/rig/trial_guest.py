"""A trial's guest: its initramfs, QEMU's line, and the two serial lines to it.

Its memory is a file that this machine maps too, so that counters, free pages and jiffies are read from outside. The
agent is spoken to over the second 16550, not over a virtio console: port_fops_write() of the latter allocates with
GFP_KERNEL for each write and so would sleep in the very state that is to be looked at.
"""

from __future__ import annotations

import hashlib
import select
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import Exit, Lacking, TidegateError
from tidegate.rig.agent_program import agent_program
from tidegate.rig.far_side import GUEST_MAC
from tidegate.rig.initramfs import Entry, cpio, module_bytes
from tidegate.rig.kernels import Kernel, needed_modules
from tidegate.rig.nics import nic_of
from tidegate.rig.servers import child
from tidegate.rig.tools import cache_directory, locked, program
from tidegate.units import MIB

BUSYBOX_NAMES = (
    "sh", "mkswap", "sysctl", "cat", "echo", "printf", "ls", "mount", "umount", "mkdir", "sleep", "test", "grep",
    "sed", "cut", "tr", "head", "tail", "readlink", "basename", "dirname", "ip", "chroot", "tar", "true", "false", "[",
    "expr", "id", "uname", "awk", "wc", "sync", "rm", "mv", "cp", "find", "sort",
    "seq",
)  # fmt: skip
TRANSPORT_MODULES: Mapping[str, tuple[str, ...]] = {
    "nbd": ("nbd",),
    "qemu-nbd": ("nbd",),
    "iscsi": ("crc32c_generic", "iscsi_tcp", "sd_mod"),
    "nvme-tcp": ("nvme_tcp",),
    "nfs": ("nfsv4", "nfs"),
    "nfs-mount": ("nfsv4", "nfs"),
    "nvme-tcp-server": ("nvmet_tcp",),  # of the guest that is the server
    "nfs-server": ("nfsd",),
}
MODULE_OPTIONS = {"nbd": "nbds_max=1"}
TRANSLATED_MIB = 32  # of translated code, for each processor
CONSOLE_MOST_BYTES = 4 * MIB


class Gone(TidegateError):
    """The guest ended, or did not answer within its time; not the kernel's doing as far as one can see."""

    exit = Exit.CANNOT_TELL


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The machine of a trial."""

    kernel: Kernel
    image: Path  # what is booted: the kernel's own image, or the same one unpacked
    nic: str
    nic_modules: tuple[str, ...]
    transport: str
    memory_mib: int
    cpus: int = 1
    nodes: int = 1
    accelerator: str = "tcg"
    gdb: bool = False
    disks: tuple[
        tuple[str, Path, bool], ...
    ] = ()  # id, file, read only; plugged in later, see record_in_guest.py
    append: str = ""
    mac: str = GUEST_MAC


def initramfs(shape: Shape) -> Path:
    """The initramfs with agent, busybox and the modules in loading order; made once for the same contents."""
    paths = module_paths(shape)
    agent, busybox = agent_program(), program("busybox")
    told = "\n".join(
        [shape.kernel.vmlinuz_sha256, agent.name, str(busybox.stat().st_size), *paths, *BUSYBOX_NAMES]
    )
    with locked(cache_directory() / "initramfs") as folder:
        kept = folder / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.cpio"
        if not kept.exists():
            part = kept.with_suffix(".part")
            part.write_bytes(cpio(_entries(shape, paths, agent, busybox)))
            part.rename(kept)
        return kept


def module_paths(shape: Shape) -> list[str]:
    """The module files that a guest loads, in loading order, below the kernel's module tree.

    Not those of its disks: a record is taken with the very initramfs of the trial (record_in_guest.py).
    """
    names = ["virtio_pci", *shape.nic_modules, *TRANSPORT_MODULES[shape.transport]]
    return needed_modules((shape.kernel.modules / "modules.dep").read_text(), names)


def _entries(shape: Shape, paths: Sequence[str], agent: Path, busybox: Path) -> dict[str, Entry]:
    folder = Entry(mode=stat.S_IFDIR | 0o755)
    entries = dict.fromkeys(
        ("bin", "dev", "proc", "sys", "tmp", "mnt", "modules", "new", "lower", "over"), folder
    )
    entries["dev/console"] = Entry(mode=stat.S_IFCHR | 0o600, device=(5, 1))
    entries["init"] = Entry(mode=stat.S_IFREG | 0o755, data=agent.read_bytes())
    entries["bin/busybox"] = Entry(mode=stat.S_IFREG | 0o755, data=busybox.read_bytes())
    for name in BUSYBOX_NAMES:
        entries[f"bin/{name}"] = Entry(mode=stat.S_IFLNK | 0o777, data=b"busybox")
    order = []
    for path in paths:
        file = Path(path).name.removesuffix(".xz").removesuffix(".zst")
        options = MODULE_OPTIONS.get(file.removesuffix(".ko"), "")
        order.append(f"{file} {options}".strip())
        entries[f"modules/{file}"] = Entry(
            mode=stat.S_IFREG | 0o644, data=module_bytes(shape.kernel.modules / path)
        )
    entries["modules/order"] = Entry(
        mode=stat.S_IFREG | 0o644, data="".join(f"{one}\n" for one in order).encode()
    )
    return entries


def command_line(shape: Shape, image: Path, folder: Path) -> list[str]:
    """QEMU's words, without the program's name. Pure but for the initramfs, which is named by `image`'s caller."""
    smp = f"{shape.cpus},sockets={shape.nodes}" if shape.nodes > 1 else str(shape.cpus)
    words = ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]
    # tb-size: QEMU would keep up to 1 GiB of what it translated; what is run again and again is less.
    emulated = f"tcg,thread=multi,tb-size={TRANSLATED_MIB * shape.cpus}"
    words += ["-accel", emulated if shape.accelerator == "tcg" else shape.accelerator]
    words += ["-cpu", "qemu64,-cx16,+rdrand" if shape.accelerator == "tcg" else "host", "-smp", smp]
    words += memory_words(shape, folder)
    words += ["-kernel", str(shape.image), "-initrd", str(image), "-append", kernel_words(shape)]
    words += ["-chardev", f"socket,id=console,path={folder}/console.sock"]
    words += ["-serial", "chardev:console"]
    words += ["-chardev", f"socket,id=agent,path={folder}/agent.sock", "-serial", "chardev:agent"]
    words += ["-chardev", f"socket,id=qmp,path={folder}/qmp.sock", "-mon", "chardev=qmp,mode=control"]
    local, remote = f"{folder}/guest.sock", f"{folder}/far.sock"
    words += [
        "-netdev",
        f"dgram,id=wire,local.type=unix,local.path={local},remote.type=unix,remote.path={remote}",
    ]
    words += nic_words(shape.nic, shape.mac)
    for serial, path, read_only in shape.disks:
        mode = "on" if read_only else "off"
        words += ["-drive", f"if=none,id={serial},format=raw,readonly={mode},file={path}"]
    if shape.gdb:
        words += ["-gdb", f"unix:{folder}/gdb.sock,server=on,wait=off"]
    return words


def nic_words(nic: str, mac: str = GUEST_MAC) -> list[str]:
    """The NIC's device, after the bus that it hangs on; without a boot ROM, which would cost seconds."""
    rom = "" if nic.startswith("usb") else ",romfile="
    return [*nic_of(nic).controller, "-device", f"{nic},netdev=wire,mac={mac}{rom}"]


def memory_words(shape: Shape, folder: Path) -> list[str]:
    """The machine with its memory in files that are shared with this process, one a node."""
    words = ["-m", f"{shape.memory_mib}M"]
    if shape.nodes == 1:
        backend = f"memory-backend-file,id=ram0,size={shape.memory_mib}M,mem-path={folder}/ram0,share=on"
        return ["-machine", "pc,usb=off,memory-backend=ram0", *words, "-object", backend]
    words = ["-machine", "pc,usb=off", *words]
    share, cpus = shape.memory_mib // shape.nodes, shape.cpus // shape.nodes
    for node in range(shape.nodes):
        last = node == shape.nodes - 1
        size = shape.memory_mib - share * node if last else share
        upto = shape.cpus - 1 if last else (node + 1) * cpus - 1
        words += [
            "-object",
            f"memory-backend-file,id=ram{node},size={size}M,mem-path={folder}/ram{node},share=on",
        ]
        words += ["-numa", f"node,nodeid={node},memdev=ram{node},cpus={node * cpus}-{upto}"]
    return words


def kernel_words(shape: Shape) -> str:
    """The kernel's own command line.

    rootfstype=ramfs: an initramfs on tmpfs could itself be swapped out. nokaslr: addresses are the same at each
    boot. panic=-1 with -no-reboot: a panic ends QEMU.
    """
    fixed = (
        "console=ttyS0 panic=-1 rootfstype=ramfs nokaslr quiet sysrq_always_enabled "
        "printk.devkmsg=on oops=panic rcupdate.rcu_cpu_stall_suppress=1 watchdog_thresh=60"
    )
    return f"{fixed} {shape.append}".strip()


class Guest:
    """A running guest: the lines to it, and where its memory lies."""

    def __init__(
        self, process: subprocess.Popen[bytes], folder: Path, lines: dict[str, socket.socket]
    ) -> None:
        self.process, self.folder = process, folder
        self.agent, self.console_line, self.qmp_line = lines["agent"], lines["console"], lines["qmp"]
        self.held = b""
        self.counters_at = 0  # guest physical address of the counters' page
        self.pump = threading.Thread(target=_pump, args=(self.console_line, folder / "console"), daemon=True)
        self.pump.start()

    @property
    def console(self) -> str:
        """All that the kernel has said."""
        path = self.folder / "console"
        return path.read_bytes()[-CONSOLE_MOST_BYTES:].decode("utf-8", "replace") if path.exists() else ""

    def await_ready(self, until: float) -> None:
        """Waits for the agent's first words. Gone with the console's last line when they do not come."""
        line = self.line(until)
        if not line.startswith("ready "):
            raise Gone(f"guest: the agent said {line!r}, expected ready")
        self.counters_at = int(line.split()[1])

    def obey(self, command: str, *, timeout_s: float = 60.0, data: bytes = b"") -> list[str]:
        """One command to the agent; the lines that it printed. Lacking with its reason when it says no."""
        self.agent.sendall(command.encode() + b"\n" + data)
        printed: list[str] = []
        until = time.monotonic() + timeout_s
        while True:
            line = self.line(until)
            if line.startswith("\t"):
                printed.append(line[1:])
            elif line == "ok":
                return printed
            else:
                raise Lacking(f"guest: {command.split(maxsplit=1)[0]}: {line.removeprefix('no ')}")

    def line(self, until: float) -> str:
        """The agent's next line."""
        while b"\n" not in self.held:
            if self.process.poll() is not None:
                raise Gone(f"guest: ended with status {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > until:
                raise Gone(f"guest: no answer in time: {self.last_words()}")
            if select.select([self.agent], [], [], 0.1)[0]:
                data = self.agent.recv(65536)
                if not data:
                    time.sleep(0.05)
                self.held += data
        line, self.held = self.held.split(b"\n", 1)
        return line.decode("utf-8", "replace")

    def last_words(self) -> str:
        """Why the kernel panicked, or the console's last line, or QEMU's own."""
        log = self.folder / "qemu.log"
        for text in (self.console, log.read_text(errors="replace") if log.exists() else ""):
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            if lines:
                return next((line for line in lines if "Kernel panic" in line), lines[-1])[:200]
        return "(it said nothing)"


def _pump(line: socket.socket, path: Path) -> None:
    """Keeps what the console says, all the time.

    Not by QEMU's own `logfile`: where the reader of a socket is late, QEMU tries a byte again and logs it twice.
    """
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while data := line.recv(65536):
            file.write(data)


@contextmanager
def booted(shape: Shape, folder: Path) -> Iterator[tuple[Guest, list[str]]]:
    """A guest from power-on to the end of the block, and QEMU's exact line; `folder` is its own and empty."""
    image = initramfs(shape)
    words = command_line(shape, image, folder)
    listeners = {name: _listening(folder / f"{name}.sock") for name in ("agent", "console", "qmp")}
    lines: dict[str, socket.socket] = {}
    try:
        with child(["qemu-system-x86_64", *words], log=folder / "qemu.log") as process:
            for name, listener in listeners.items():
                lines[name] = _accepted(listener, process, folder)
            guest = Guest(process, folder, lines)
            yield guest, ["qemu-system-x86_64", *words]
        guest.pump.join(timeout=5)
    finally:
        for one in (*listeners.values(), *lines.values()):
            one.close()


def _listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    listener.settimeout(0.1)
    return listener


def _accepted(listener: socket.socket, process: subprocess.Popen[bytes], folder: Path) -> socket.socket:
    """QEMU connects to its lines before it starts the guest, so that no word of it is lost."""
    for _ in range(200):
        try:
            line, _address = listener.accept()
        except TimeoutError:
            if process.poll() is None:
                continue
            break
        return line
    said = (folder / "qemu.log").read_text(errors="replace").strip().splitlines()[-1:] or ["(nothing)"]
    # What it says itself will be the same next time; that it was killed, or is slow to start, need not be.
    kind = Lacking if (process.poll() or 0) > 0 else Gone
    raise kind(f"qemu-system-x86_64: did not start: {said[0][:200]}")
