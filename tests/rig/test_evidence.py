"""The bundle: complete whatever the guest does, and out of a real guest that QEMU has stopped."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tidegate.rig import evidence, kernels
from tidegate.rig.counters import READINGS, Counters
from tidegate.rig.evidence import gather, look
from tidegate.rig.happened import Mark
from tidegate.rig.monitor import Monitor, Unanswered
from tidegate.rig.ram import KernelMemory
from tidegate.rig.tools import missing
from tidegate.rig.trial_guest import Guest
from tidegate.rig.wire import FarSide
from tidegate.trace import Event
from tidegate.trial import Job, Second
from tidegate.watermarks import Zone

WEDGE = Path(__file__).parent.parent / "recorded" / "wedge.pcap"
PORT = 10809
ZONE = Zone(
    node=0, name="DMA32", free=126, boost=512, min=700, low=747, high=794, promo=841, spanned=24544, present=24544,
    managed=14429, cma=0, free_cma=0, protection=(0, 0, 0), pcp=0,
)  # fmt: skip


class MadeMonitor:
    """Answers as QEMU does; with `mute` it is gone."""

    def __init__(self, *, mute: bool = False) -> None:
        self.mute = mute
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def ask(self, command: str, **arguments: Any) -> Any:
        self.asked.append((command, arguments))
        if self.mute:
            raise Unanswered(f"qemu monitor: {command}: gone")
        return {"status": "running", "running": True}

    def human(self, command: str) -> str:
        self.ask(command)
        return f"{command}: one line\nand another"


class MadeFar:
    """A far side whose capture is a real one."""

    said: tuple[dict[str, str], ...] = ({"event": "flood", "said": "sent 125648 refused 0"},)

    def order(self, do: str, *, path: Path) -> dict[str, Any]:
        assert do == "capture"
        shutil.copyfile(WEDGE, path)
        return {"stats": {"waiting": 512, "last_reply_s": 29.7, "last_request_s": 3.1}, "server": "S"}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What gather() takes, of a guest that never ran."""
    guest = tmp_path / "guest"
    guest.mkdir()
    (guest / "server.log").write_text("nbdkit: ready\n")
    layout = SimpleNamespace(kernel_zone=2)
    monkeypatch.setattr(evidence, "zones", lambda memory: (ZONE,))
    monkeypatch.setattr(evidence, "socket_pages", lambda memory: (3, 1024))
    return {
        "guest": cast("Guest", SimpleNamespace(folder=guest, console="[    1.0] hello\n")),
        "monitor": cast("Monitor", MadeMonitor()),
        "memory": cast("KernelMemory", SimpleNamespace(layout=layout)),
        "far": cast("FarSide", MadeFar()),
        "port": PORT,
        "looks": {"blocked-1.txt": "[   36.1] task:a\n", "blocked-2.txt": "[   44.8] task:a\n"},
        "seconds": [Second(guest_ms=50, free_pages=126, slack_pages=55, done_pages=1, swapped_out_pages=0,
                           swapped_in_pages=0, udp_mem_pages=0, tcp_mem_pages=0)],
        "counted": Counters(900, 45_000, 1_000, 0, dict.fromkeys(READINGS, 7), (), 0),
        "limits": {"tcp_mem": "714 954 1428"},
        "marks": [Mark(guest_ms=0, step="load begins", at_s=time.monotonic())],
    }  # fmt: skip


def test_every_file_is_there(tmp_path: Path, made: dict[str, Any]) -> None:
    folder = tmp_path / "bundle"
    gather(folder, **made)
    assert {path.name for path in folder.iterdir()} == {
        "blocked-1.txt", "blocked-2.txt", "blocked.diff", "capture.pcapng", "console.txt", "counters.jsonl",
        "emulator.json", "readings.json", "server.log", "trace.jsonl", "wire.json", "zones.json",
    }  # fmt: skip
    assert (folder / "blocked.diff").read_text().strip() == "", "time stamps are no difference"
    assert (folder / "server.log").read_text() == "nbdkit: ready\n"
    assert json.loads((folder / "zones.json").read_text())[0]["floor"] == 71
    assert json.loads((folder / "wire.json").read_text())["talk"]["sent_again_though_acknowledged"] == 7
    steps = [
        msgspec.json.decode(line, type=Event).step
        for line in (folder / "trace.jsonl").read_bytes().splitlines()
    ]
    assert "last reply on the wire" in steps


def test_pages_of_sockets_are_read_from_memory_and_the_guests_own_with_their_age(
    tmp_path: Path, made: dict[str, Any]
) -> None:
    """The guest's program that reads /proc may itself be stuck: then its readings are old, and say so."""
    gather(tmp_path / "bundle", **made)
    readings = json.loads((tmp_path / "bundle" / "readings.json").read_text())
    assert readings["from_memory"] == {"tcp_mem": 3, "udp_mem": 1024}
    assert readings["of_guest_age_ms"] == 44_000
    assert readings["of_guest"]["rx_dropped"] == 7
    assert readings["limits"] == {"tcp_mem": "714 954 1428"}


def test_a_dump_is_made_on_request_only(tmp_path: Path, made: dict[str, Any]) -> None:
    gather(tmp_path / "without", **made)
    gather(tmp_path / "with", dump=True, **made)
    asked = [arguments for command, arguments in made["monitor"].asked if command == "dump-guest-memory"]
    assert asked == [{"paging": False, "protocol": f"file:{tmp_path}/with/memory.elf"}]


def test_an_emulator_that_is_gone_leaves_the_rest(tmp_path: Path, made: dict[str, Any]) -> None:
    made["monitor"] = MadeMonitor(mute=True)
    folder = tmp_path / "bundle"
    gather(folder, dump=True, **made)
    assert json.loads((folder / "emulator.json").read_text())["status"] == {"status": "unanswered"}
    assert "gone" in (folder / "memory.txt").read_text()
    assert (folder / "capture.pcapng").stat().st_size > 0


@pytest.mark.vm
def test_a_guest_that_qemu_has_stopped_is_looked_into_and_dumped(tmp_path: Path) -> None:
    from tidegate.rig.trial_guest import booted
    from tidegate.rig.tried import far_of, tried_job
    from tidegate.rig.wire import far_side

    if absent := missing(("qemu-system-x86_64", "busybox", "gcc", "unshare", "ip", "nbdkit")):
        pytest.skip(f"this machine lacks {', '.join(absent)}")
    if "trixie-cloud" not in {one.name for one in kernels.cached()}:
        pytest.skip("trixie-cloud is not cached here")
    tried = tried_job(Job(case="deadlock", arm="quiet", kernel="trixie-cloud", nic="", transport="", seed=1))
    with far_side(far_of(tried, tmp_path)), booted(tried.shape, tmp_path) as (guest, _command):
        guest.await_ready(time.monotonic() + 180)
        with closing(Monitor(guest.qmp_line)) as monitor:
            monitor.ask("stop")
            found = look(monitor, guest, 1, tasks=True)
            assert monitor.ask("query-status")["status"] == "paused"
            evidence._dump(monitor, tmp_path / "memory.elf")
    assert "Mem-Info:" in found["memory-1.txt"]
    assert "hwpoisoned" in found["memory-1.txt"], "the dump's last line"
    assert "Show Blocked State" in found["blocked-1.txt"]
    assert "kswapd0" in found["tasks-1.txt"]
    head = (tmp_path / "memory.elf").read_bytes()[:20]
    assert head[:4] == b"\x7fELF"
    assert int.from_bytes(head[16:18], "little") == 4, "ET_CORE"
    assert (tmp_path / "memory.elf").stat().st_size > tried.shape.memory_mib << 20
