"""Asking QEMU instead of the guest: SysRq over the console, the emulator's own state, a memory dump.

A SysRq by a break on the serial console is answered from the interrupt handler (sysrq_handle_showmem,
sysrq_handle_showstate_blocked), so also by a guest in which nothing else can run.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from tidegate.errors import Exit, TidegateError
from tidegate.rig.trial_guest import Guest

_QUIET_S = 1.0  # a dump is over when the console was silent for so long
_LONGEST_S = 30.0
_BREAK_S = 0.05


class Unanswered(TidegateError):
    """QEMU's monitor does not answer."""

    exit = Exit.CANNOT_TELL


class Monitor:
    """QEMU's monitor on the line that QEMU opened to us."""

    def __init__(self, line: socket.socket) -> None:
        from qemu.qmp.legacy import QEMUMonitorProtocol

        self.protocol = QEMUMonitorProtocol(line, nickname="trial")
        try:
            self.protocol.connect(negotiate=True)
        except Exception as trouble:  # noqa: BLE001 - asyncio's, the library's and the socket's
            raise Unanswered(f"qemu monitor: {trouble}") from None

    def ask(self, command: str, **arguments: Any) -> Any:
        """One command's answer; Unanswered when there is none."""
        try:
            return self.protocol.cmd(command, **arguments)
        except Exception as trouble:  # noqa: BLE001 - asyncio's, the library's and the socket's
            raise Unanswered(f"qemu monitor: {command}: {trouble}") from None

    def human(self, command: str) -> str:
        """The answer of the monitor that people use: `info network` and the like."""
        return str(self.ask("human-monitor-command", **{"command-line": command}))

    def close(self) -> None:
        """Lets go of the line."""
        self.protocol.close()


def sysrq(monitor: Monitor, guest: Guest, keys: str) -> str:
    """What the kernel prints for these SysRq keys, raw; `7` first, since a quiet console hides the bodies.

    A paused guest is let run for it, and paused again: the kernel prints, not QEMU.
    """
    paused = monitor.ask("query-status")["status"] == "paused"
    if paused:
        monitor.ask("cont")
    path = guest.folder / "console"
    start = path.stat().st_size
    for key in "7" + keys:
        monitor.ask("chardev-send-break", id="console")
        time.sleep(_BREAK_S)
        guest.console_line.sendall(key.encode())
        _await_quiet(guest)
    if paused:
        monitor.ask("stop")
    with path.open("rb") as file:
        file.seek(start)
        return file.read().decode("utf-8", "replace").replace("\r\n", "\n")


def _await_quiet(guest: Guest) -> None:
    path, size, since = guest.folder / "console", -1, time.monotonic()
    until = since + _LONGEST_S
    while time.monotonic() < min(since + _QUIET_S, until):
        now = path.stat().st_size
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(0.05)
