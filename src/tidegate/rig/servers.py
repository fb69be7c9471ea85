"""Storage served from outside the guest, by ordinary programs on this machine's loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tidegate.errors import Lacking
from tidegate.rig.scenario import Server, ServerKind
from tidegate.rig.tools import call, program
from tidegate.units import MIB

TARGET = "iqn.2005-08.test.tidegate:disk"
_WELL_KNOWN = {ServerKind.NBD: 10809, ServerKind.ISCSI: 3260}
_START_S = 20.0


@contextmanager
def child(
    argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that lives as long as the `with` block, and never longer than this process."""
    words = [str(program("setpriv")), "--pdeathsig", "KILL", str(program(str(argv[0]))), *map(str, argv[1:])]
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # a Ctrl-C is for us; we end our children ourselves
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a child: asked first, then killed."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port(preferred: int) -> int:
    """The preferred port of the loopback if nobody listens there, else any free one."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Lacking("loopback: found no free port, expected one")


@contextmanager
def served(servers: Sequence[Server], folder: Path) -> Iterator[dict[str, str]]:
    """Starts the servers and gives the words by which the guest finds them; ends them afterwards."""
    words: dict[str, str] = {}
    with ExitStack() as running:
        for server in servers:
            port = free_port(_WELL_KNOWN[server.kind])
            log = folder / f"{server.kind}.log"
            if server.kind is ServerKind.NBD:
                running.enter_context(nbd_server("127.0.0.1", port, server.size_mib, log))
                words["NBD_PORT"] = str(port)
            else:
                running.enter_context(iscsi_target("127.0.0.1", port, server.size_mib, folder, log))
                words |= {"ISCSI_PORT": str(port), "ISCSI_TARGET": TARGET}
        yield words


@contextmanager
def nbd_server(address: str, port: int, size_mib: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An nbdkit with a disk in memory."""
    # Not --exit-with-parent: it would put SIGTERM in the place of child()'s SIGKILL as the signal of the parent's
    # death, and on SIGTERM nbdkit waits for its connections, which a wedged guest never closes.
    argv = ["nbdkit", "--foreground", "--ipaddr", address, "--port", str(port)]
    with child([*argv, "memory", f"{size_mib}M"], log=log) as process:
        _await(address, port, process, log)
        try:
            yield process
        finally:
            # Asked to end it waits for its clients; a guest that was switched off never closes its connection.
            process.kill()


@contextmanager
def qemu_nbd_server(
    address: str, port: int, size_mib: int, folder: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A qemu-nbd with a raw file in `folder`."""
    store = _blank(folder / "nbd.disk", size_mib)
    argv = ["qemu-nbd", "--bind", address, "--port", str(port), "--format", "raw", "--shared", "16"]
    with child([*argv, "--cache", "unsafe", "--persistent", store], log=log) as process:
        _await(address, port, process, log)
        yield process


@contextmanager
def iscsi_target(
    address: str, port: int, size_mib: int, folder: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A tgtd with one target and one unit, TARGET, a raw file in `folder`."""
    env = {"TGT_IPC_SOCKET": str(folder / "tgt")}
    store = _blank(folder / "iscsi.disk", size_mib)
    argv = ["tgtd", "--foreground", "--iscsi", f"portal={address}:{port}"]
    with child(argv, log=log, env=env) as process:
        _await(address, port, process, log)
        admin = ["tgtadm", "--lld", "iscsi", "--mode"]
        for words in (
            ["target", "--op", "new", "--tid", "1", "-T", TARGET],
            ["logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "-b", str(store)],
            ["target", "--op", "bind", "--tid", "1", "-I", "ALL"],
        ):
            call([*admin, *words], timeout_s=20, env=env)
        yield process


def _blank(path: Path, size_mib: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size_mib * MIB)
    return path


def _await(address: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until somebody listens; Lacking with the server's last words when it ends or takes too long."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    said = log.read_text(errors="replace").strip().splitlines()[-1:] or ["(nothing)"]
    raise Lacking(f"{log.stem} server on port {port}: not listening: {said[0]}")
