"""`tidegate kernels`: the kernels that trials run on."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tidegate.errors import Exit, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidegate.rig.kernel_list import Abilities, Kernels, Listed

SUMMARY = "stock kernels that trials run on: list, fetch, clean"
DESCRIPTION = """\
A trial boots a kernel as its distribution ships it. Debian's are known by name (trixie-cloud, trixie-generic,
bookworm-cloud, bookworm-generic): the newest of a release and a flavour. They are fetched with this system's own
package client, signatures checked, unpacked into a cache below XDG_CACHE_HOME (or ~/.cache), and never installed.

list shows those names, and the files that were unpacked here: release, version, hash, and what each can be tried
with: types of its structures (BTF), ways to reach storage, drivers of NICs that QEMU has. It asks no archive.

fetch takes such a name, or the path of a .deb, of an .rpm or of a boot image. An image stays where it is, and its
modules are looked for beside it, then in /lib/modules. --refresh fetches the newest again.

clean removes what is cached, all of it or NAME, and says how much that was.

The cloud flavours are small, and have drivers of virtio_net and vmxnet3 only.
"""
EXAMPLES = (
    ("what there is", "tidegate kernels"),
    ("Debian 13's, as its cloud images have it", "tidegate kernels fetch trixie-cloud"),
    ("a package that lies here", "tidegate kernels fetch ./linux-image-6.12.0_amd64.deb"),
    ("the cache", "tidegate kernels clean"),
)
EXIT_STATUS = {
    0: "done",
    2: "no such kernel, or the file is none",
    5: "a program is missing, or the archive cannot be reached",
}
CLEANED_SCHEMA = "tidegate.kernels-cleaned/1"
_HASH_SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "fetch", "clean"),
        default="list",
        help="what to do (%(default)s)",
    )
    parser.add_argument("name", nargs="*", metavar="NAME", help="a kernel's name, or the path of a file")
    parser.add_argument("--refresh", action="store_true", help="with fetch: the newest, though one is cached")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON (tidegate.kernels/1; clean: tidegate.kernels-cleaned/1)",
    )


def run(args: argparse.Namespace) -> int:
    """Lists, fetches or cleans."""
    if args.refresh and args.action != "fetch":
        raise Usage("kernels: --refresh goes with fetch")
    if args.action == "fetch":
        _fetch(args)
    elif args.action == "clean":
        _clean(args)
    elif args.name:
        raise Usage("kernels: list takes no name; did you mean fetch?")
    else:
        _print(None, args)
    return Exit.OK


def _fetch(args: argparse.Namespace) -> None:
    from tidegate.cli.progress import progress
    from tidegate.rig.kernels import NAMED, fetch, resolve

    if not args.name:
        raise Usage(f"kernels: fetch needs a name: {', '.join(NAMED)}, or the path of a file")
    got = []
    with progress(quiet=args.quiet > 0) as tell:
        for name in args.name:
            tell(f"{name}: fetching")
            refresh = args.refresh and name in NAMED
            got.append(fetch(*NAMED[name], refresh=True) if refresh else resolve(name))
    from tidegate.rig.kernel_list import listed_kernels

    _print(listed_kernels(got), args)


def _clean(args: argparse.Namespace) -> None:
    from tidegate.rig.kernels import clean

    freed = clean(args.name)
    if args.json:
        import json

        told = {"schema": CLEANED_SCHEMA, "freed_bytes": sum(freed.values()), "kernels": freed}
        sys.stdout.write(json.dumps(told, indent=2, sort_keys=True) + "\n")
        return
    lines = [f"removed {name}: {_size(size)}" for name, size in freed.items()]
    if len(lines) != 1:
        lines.append(f"{_size(sum(freed.values()))} in all" if lines else "nothing was cached")
    sys.stdout.write("\n".join(lines) + "\n")


def _print(kernels: Kernels | None, args: argparse.Namespace) -> None:
    if kernels is None:
        from tidegate.rig.kernel_list import listed

        kernels = listed()
    if args.json:
        from tidegate.report.json import to_json

        sys.stdout.write(to_json(kernels))
        return
    from tidegate.rig.tools import cache_directory

    lines = [line for kernel in kernels.kernels for line in _lines(kernel)]
    lines.append(f"{_size(kernels.size_bytes)} in {cache_directory()}")
    sys.stdout.write("\n".join(lines) + "\n")


def _lines(kernel: Listed) -> Iterator[str]:
    from tidegate.cli import one_line

    if kernel.can is None:
        yield f"{kernel.name}  not fetched"
        yield f"    {kernel.package}; tidegate kernels fetch {kernel.name}"
        return
    size = f"  {_size(kernel.size_bytes)}" if kernel.size_bytes else ""
    yield f"{one_line(kernel.name)}  {kernel.release}  ({kernel.version}){size}"
    package = f"{kernel.package}, " if kernel.package else ""
    source = f"sha256 {kernel.package_sha256[:_HASH_SHOWN]}, " if kernel.package_sha256 else "no package, "
    yield f"    {package}{source}image {kernel.vmlinuz_sha256[:_HASH_SHOWN]}"
    yield from _can(kernel.can)


def _can(can: Abilities) -> Iterator[str]:
    from tidegate.rig.nics import MODELS

    btf = {True: "with BTF", False: "without BTF", None: "BTF: cannot be told"}[can.btf]
    yield f"    {btf}; {' '.join(can.transports) or 'no transport'}"
    drivers = dict.fromkeys(MODELS[model].driver for model in can.nics)
    yield f"    NICs: {' '.join(drivers) or 'none that QEMU has'}"


def _size(size_bytes: int) -> str:
    from tidegate.units import MIB

    return f"{size_bytes / MIB:.0f} MiB"
