"""What tests that boot a trial's guest need here, and how they look at what is left of one."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tidegate.errors import TidegateError
from tidegate.rig import pool
from tidegate.rig.accelerator import choose
from tidegate.rig.agent_program import agent_program
from tidegate.rig.kernels import resolve
from tidegate.rig.places import check_programs, check_room

KERNEL = "trixie-cloud"


def why_no_trial(transport: str = "nbd") -> str:
    """Why no trial can be made here, in words; empty where it can."""
    words = ["unshare", "-n" if os.geteuid() == 0 else "-rn", "true"]
    try:
        check_programs(transport)
        check_room(256)
        agent_program()
        choose(resolve(KERNEL))
    except TidegateError as trouble:
        return str(trouble)
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "no /dev/net/tun here"
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"no namespace of one's own here: {done.stderr.strip()}" if done.returncode else ""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_gone(pids: list[int], within_s: float = 10) -> bool:
    until = time.monotonic() + within_s
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, pids))


def words_of(pid: int) -> list[str]:
    """A process's command line; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def below(pid: int) -> list[int]:
    """All that a process started, whoever of them started it."""
    return pool._below(pid)


def found(pid: int, name: str, within_s: float = 0) -> int:
    """The process below this one with such a program, or such a word in its line; 0 for none."""
    until = time.monotonic() + within_s
    while True:
        for one in below(pid):
            words = words_of(one)
            started = bool(words) and Path(words[0]).name not in {"setpriv", "unshare"}
            if started and (Path(words[0]).name == name or name in words):
                return one
        if time.monotonic() >= until:
            return 0
        time.sleep(0.02)


def guest_folder_of(qemu: int) -> Path:
    """Where the guest's memory lies, from QEMU's own line."""
    word = next(word for word in words_of(qemu) if word.startswith("memory-backend-file"))
    return Path(word.partition("mem-path=")[2].partition(",")[0]).parent
