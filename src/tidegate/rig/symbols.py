"""The addresses of a kernel's functions and variables, from one short boot of it.

A shipped kernel is stripped, so only the running kernel tells: /proc/kallsyms. With `nokaslr` the addresses
are the same at every boot of that image, so they are asked for once and kept, all of them.
"""

from __future__ import annotations

import json
import lzma
import re
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import Lacking, Unsupported
from tidegate.rig.initramfs import CONSOLE_SAYS_LOST, Entry, cpio, module_bytes
from tidegate.rig.kernels import Kernel, needed_modules
from tidegate.rig.tools import locked, program
from tidegate.rig.vmlinux import facts_directory, uncompressed
from tidegate.units import MIB

# The kernel must not be moved in memory, or no address holds. Every guest that is read with these needs it.
FIXED_ADDRESSES = "nokaslr"
_BOOT_LIMIT_S = 300.0
_DISK_MIB = 64  # kallsyms of a Debian kernel is about 10 MB
_END = "tidegate-rig: end"

# A disk, not a serial port: each byte through an emulated 16550 is an exit of the emulator, 10 MB of them minutes.
_INIT = f"""\
#!/bin/busybox sh
b=/bin/busybox
lost() {{{{ echo "{CONSOLE_SAYS_LOST} $*"; $b poweroff -f; }}}}
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
for module in {{modules}}; do $b insmod /modules/$module || lost "insmod $module"; done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do tries=$((tries + 1)); $b usleep 100000; done
echo 0 >/proc/sys/kernel/kptr_restrict
{{{{ $b cat /proc/version; [ -e /sys/kernel/btf/vmlinux ] && echo 1 || echo 0
   $b cat /proc/kallsyms; echo "{_END}"; }}}} >/dev/vda || lost "writing to /dev/vda"
$b sync
$b poweroff -f
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What the short boot told."""

    banner: str  # /proc/version, without the line's end
    btf: bool  # does /sys/kernel/btf/vmlinux exist
    kallsyms: str  # the kernel's own lines of /proc/kallsyms; the modules' are loaded anywhere


def probe(kernel: Kernel) -> Probe:
    """What one boot of this kernel tells about it: done once, then cached. Lacking when it does not boot."""
    elf = uncompressed(kernel.vmlinuz)  # takes the folder's lock itself
    with locked(facts_directory(kernel.vmlinuz_sha256)) as folder:
        kept = folder / "kallsyms.xz"
        if not kept.exists():
            unfinished = folder / "kallsyms.part"
            unfinished.write_bytes(lzma.compress(_boot(kernel, elf).encode(), preset=2))
            unfinished.replace(kept)
        return told(lzma.decompress(kept.read_bytes()).decode(), kernel.release)


def told(text: str, release: str) -> Probe:
    """The probe's disk, read; Lacking when the guest did not come to the end or hid its addresses."""
    head, end, _ = text.partition(f"{_END}\n")
    banner, _, rest = head.partition("\n")
    btf, _, lines = rest.partition("\n")
    if not end or not banner.startswith(f"Linux version {release} "):
        raise Lacking(
            f"kernel {release}: found {banner[:60]!r} from its probe boot, expected all of kallsyms"
        )
    kernel_lines = "".join(line for line in lines.splitlines(keepends=True) if "\t[" not in line)
    if re.search(r"^0*[1-9a-f][0-9a-f]* ", kernel_lines, re.MULTILINE) is None:
        raise Lacking(f"kernel {release}: found only zeros in kallsyms, expected addresses")
    return Probe(banner=banner, btf=btf == "1", kallsyms=kernel_lines)


def symbols(kernel: Kernel, wanted: Sequence[str]) -> dict[str, int]:
    """The virtual addresses of these symbols, valid under `nokaslr`.

    Unsupported when this kernel has none of that name, or several: static functions may share one.
    """
    folder = facts_directory(kernel.vmlinuz_sha256)
    note = folder / "symbols.json"
    # Reading all of kallsyms takes a good part of a second: names asked for before are kept beside it.
    known: dict[str, int] = json.loads(note.read_text()) if note.exists() else {}
    if missing := [name for name in wanted if name not in known]:
        known |= addresses(probe(kernel).kallsyms, missing)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as unfinished:
            json.dump(known, unfinished, indent=1)
        Path(unfinished.name).replace(note)
    return {name: known[name] for name in wanted}


def addresses(kallsyms: str, wanted: Sequence[str]) -> dict[str, int]:
    """The addresses of these names in the text of /proc/kallsyms; Unsupported for none or several."""
    names = "|".join(map(re.escape, wanted))
    found: dict[str, set[int]] = {name: set() for name in wanted}
    for address, name in re.findall(rf"^([0-9a-f]+) \S ({names})$", kallsyms, re.MULTILINE):
        found[name].add(int(address, 16))
    for name, places in found.items():
        if len(places) != 1:
            raise Unsupported(f"kallsyms: found {len(places)} symbols {name}, expected one")
    return {name: min(places) for name, places in found.items()}


def _boot(kernel: Kernel, elf: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="tidegate-probe-") as name:
        folder = Path(name)
        (folder / "initramfs").write_bytes(_initramfs(kernel))
        with (folder / "disk").open("wb") as disk:
            disk.truncate(_DISK_MIB * MIB)
        words = [str(program("qemu-system-x86_64")), *_command_line(elf, folder)]
        try:
            done = subprocess.run(  # noqa: S603 - the words are our own
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_BOOT_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired as trouble:
            raise Lacking(f"kernel {kernel.release}: its probe boot had no end") from trouble
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise Lacking(f"qemu-system-x86_64: exit {done.returncode}: {said}")
        for line in (folder / "console").read_text("utf-8", "replace").splitlines():
            if CONSOLE_SAYS_LOST in line:
                raise Lacking(f"kernel {kernel.release}: {line}")
        return (folder / "disk").read_bytes().rstrip(b"\0").decode("utf-8", "replace")


def _command_line(elf: Path, folder: Path) -> list[str]:
    words = ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]
    words += ["-machine", "pc,usb=off", "-accel", "tcg", "-m", "256M", "-kernel", str(elf)]
    words += ["-initrd", str(folder / "initramfs")]
    words += ["-append", f"console=ttyS0 panic=-1 quiet {FIXED_ADDRESSES}"]
    words += ["-serial", f"file:{folder}/console"]
    words += ["-drive", f"if=none,id=out,format=raw,file={folder}/disk"]
    return [*words, "-device", "virtio-blk-pci,drive=out"]


def _initramfs(kernel: Kernel) -> bytes:
    directory = Entry(mode=stat.S_IFDIR | 0o755)
    entries = dict.fromkeys(("bin", "dev", "proc", "sys", "modules"), directory)
    entries["dev/console"] = Entry(mode=stat.S_IFCHR | 0o600, device=(5, 1))
    entries["bin/busybox"] = Entry(mode=stat.S_IFREG | 0o755, data=program("busybox").read_bytes())
    names = []
    for path in needed_modules((kernel.modules / "modules.dep").read_text(), ("virtio_pci", "virtio_blk")):
        names.append(Path(path).name.removesuffix(".xz"))
        data = module_bytes(kernel.modules / path)
        entries[f"modules/{names[-1]}"] = Entry(mode=stat.S_IFREG | 0o644, data=data)
    entries["init"] = Entry(mode=stat.S_IFREG | 0o755, data=_INIT.format(modules=" ".join(names)).encode())
    return cpio(entries)
