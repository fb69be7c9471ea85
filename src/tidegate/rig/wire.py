"""Starting and ordering a trial's far side (`far_side.py`) in a network namespace of its own."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from tidegate.errors import Lacking, TidegateError
from tidegate.rig.far_side import IN_A_GUEST, Far, Order
from tidegate.rig.servers import end
from tidegate.rig.storage_guest import storage_guest
from tidegate.rig.tools import program
from tidegate.rig.trial_guest import Gone

_ANSWER_S = 30.0


class FarSide:
    """The far side as seen from here. An order is answered by what the relay has counted so far."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log
        self.held = b""
        self.is_ready = False
        self.said: list[dict[str, Any]] = []  # events that nobody waited for: what the storm's senders say
        assert process.stdout is not None
        self.out = process.stdout
        self.waiting = selectors.DefaultSelector()
        self.waiting.register(self.out, selectors.EVENT_READ)

    def order(self, do: str, *words: str, path: Path | None = None) -> dict[str, Any]:
        """Gives an order and waits for its answer: `stats` and the `server`'s process state. Gone when it has ended."""
        order = Order(do=do, words=words, path="" if path is None else str(path))
        self.send(msgspec.json.encode(order))
        return self.await_event("did")

    def ready(self) -> None:
        """Waits until the server listens. Lacking with the reason when it does not."""
        if not self.is_ready:
            self.await_event("ready")
            self.is_ready = True

    def await_event(self, event: str, timeout_s: float = _ANSWER_S) -> dict[str, Any]:
        """The next event of this kind; others that come before it are kept in `said`."""
        until = time.monotonic() + timeout_s
        while True:
            for at, one in enumerate(self.said):
                if one["event"] == event:
                    return self.said.pop(at)
                if one["event"] == "no":
                    raise Lacking(str(one["reason"]))
            if time.monotonic() > until:
                raise Gone(f"far side: no {event} within {timeout_s:.0f} s")
            self.said += self._read(until - time.monotonic())

    def server_runs(self) -> bool:
        """False when the server's process has ended; a stopped one runs, in a manner of speaking."""
        return bool(self.order("stats")["server"])

    def sent(self, timeout_s: float = 3.0) -> int:
        """What one sender of the storm says at its end: the packets that it sent. Lacking when it says nothing."""
        until = time.monotonic() + timeout_s
        while True:
            said = str(self.await_event("flood", max(until - time.monotonic(), 0.0))["said"]).split()
            if said[:1] == ["sent"]:
                return int(said[1])

    def send(self, line: bytes) -> None:
        """One line of JSON to the far side. Lacking when it never came up, Gone when it has ended since."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise self._ended() from None

    def _read(self, timeout_s: float) -> list[dict[str, Any]]:
        if not self.waiting.select(max(timeout_s, 0)):
            return []
        data = os.read(self.out.fileno(), 65536)
        if not data:
            raise self._ended()
        *lines, self.held = (self.held + data).split(b"\n")
        return [msgspec.json.decode(line) for line in lines if line]

    def _ended(self) -> TidegateError:
        said = f"far side: ended: {_last(self.log)}"
        return Gone(said) if self.is_ready else Lacking(said)


@contextmanager
def far_side(far: Far, *, wait: bool = True) -> Iterator[FarSide]:
    """Server, relay and storm's sender, from when the server listens to the end of the block.

    Without `wait` they may still be starting, beside a guest that boots: call `ready` before the first order.
    """
    words = [str(program("unshare")), "-n" if os.geteuid() == 0 else "-rn"]
    log = Path(far.folder) / "far.log"
    with log.open("wb") as trouble:
        process = subprocess.Popen(  # noqa: S603
            [*words, sys.executable, "-m", "tidegate.rig.far_side"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=trouble,
            start_new_session=True,
        )
    side = FarSide(process, log)
    try:
        side.send(msgspec.json.encode(far))
        if wait or far.transport in IN_A_GUEST:
            side.ready()
        with ExitStack() as running:
            if far.transport in IN_A_GUEST:
                guest = running.enter_context(storage_guest(far))
                side.order("server_is", str(guest.process.pid))
            yield side
    finally:
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            end(process)
        if process.returncode:
            _end_left_over(Path(far.folder))
        side.waiting.close()
        side.out.close()


def _end_left_over(folder: Path) -> None:
    """Ends a server that outlived a far side which was killed: its standard error is a file in the trial's own folder.

    The signal of the parent's death did not reach an nbdkit with an open connection (seen, not understood).
    """
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if (entry / "fd" / "2").readlink().is_relative_to(folder):
                    os.kill(int(entry.name), signal.SIGKILL)


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "(it said nothing)"
