"""A trial's guest for people: set up as the trial would, then a shell in it, or QEMU's gdb stub.

The guest is the trial's own, up to the moment before the pressure: what one sees is what a trial starts from. `go`
typed into the shell does not start the load; that is the trial's business.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tidegate.errors import Exit
from tidegate.rig import one_trial
from tidegate.rig.agent_program import agent_program
from tidegate.rig.places import guest_folder
from tidegate.rig.trial_guest import Guest, booted
from tidegate.rig.tried import far_of, memory_mib, tried_job
from tidegate.rig.wire import far_side
from tidegate.trial import Job

END = b"\x1d"  # Ctrl-], as telnet has it


def shell(job: Job, *, gdb: bool = False) -> int:
    """Boots the job's guest, sets it up, and connects this terminal to its console until Ctrl-] or the guest's end."""
    tried = tried_job(job)
    tried = replace(tried, shape=replace(tried.shape, gdb=gdb))
    agent_program()
    with (
        guest_folder(memory_mib(tried)) as place,
        far_side(far_of(tried, place)) as side,
        booted(tried.shape, place) as (guest, _),
    ):
        guest.await_ready(time.monotonic() + one_trial.BOOT_S)
        one_trial.set_up_by_hand(tried, guest, side)
        if gdb:
            sys.stderr.write(
                f"tidegate: gdb {tried.shape.image} -ex 'target remote {place}/gdb.sock'\n"
                "tidegate: (an image without symbols; addresses are in /proc/kallsyms of the guest)\n"
            )
        sys.stderr.write("tidegate: the guest is set up, without pressure and storm; Ctrl-] ends it\n")
        guest.obey("shell")
        _connect(guest)
    return int(Exit.OK)


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    if not os.isatty(terminal):
        yield
        return
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _connect(guest: Guest) -> None:
    """Keys go to the console; what it says is read from the file that its pump keeps."""
    over = threading.Event()
    shown = threading.Thread(target=_show, args=(guest.folder / "console", over), daemon=True)
    terminal = sys.stdin.fileno()
    with _raw(terminal):
        shown.start()
        while guest.process.poll() is None:
            if not select.select([terminal], [], [], 0.2)[0]:
                continue
            keys = os.read(terminal, 1024)
            if not keys or END in keys:
                time.sleep(0.5)  # what was asked last still answers
                break
            guest.console_line.sendall(keys.replace(b"\n", b"\r") if not os.isatty(terminal) else keys)
        over.set()
        shown.join()


def _show(path: Path, over: threading.Event) -> None:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        while True:
            last = over.is_set()
            data = file.read()
            if data:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            if last:
                return
            time.sleep(0.02)
