"""A bundle's diagnosis is made from its folder: real ones, cut to what a diagnosis looks at, and mixtures of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidegate.errors import BadInput
from tidegate.rig import diagnosis
from tidegate.rig.bundle import known_of, read_bundle
from tidegate.rig.diagnosis import Diagnosis, diagnose, diagnosed
from tidegate.trial import TrialResult, Verdict

BUNDLES = Path(__file__).parent.parent / "recorded" / "bundles"
REAL = {
    "virtio-d1": ("D1", "virtio_net's receive ring ran dry"),
    "e1000-d2": ("D2", "e1000 takes receive buffers with plain GFP_ATOMIC"),
    "vmxnet3-d3": ("D3", "no sk_buff can be had"),
    "oom": (None, "killed init (process 140) for want of memory"),
    "tcp-mem": ("D13", "hold 3067 pages of tcp_mem's 3000, while no zone is short of pages"),
    "reset": ("D9-reconnect", "Receive control failed (result -104)"),
    "server-stopped": (None, "stopped (SIGSTOP, state T)"),
    "guest-paused": (None, "The guest is paused"),
}


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        return shutil.copytree(BUNDLES / name, tmp_path / name)

    return copy


def change(path: Path, **facts: Any) -> None:
    """Sets members of a JSON file, also inner ones: readings__limits is limits of readings."""
    content = json.loads(path.read_text())
    for name, value in facts.items():
        place = content
        *outer, last = name.split("__")
        for key in outer:
            place = place[key]
        place[last] = value
    path.write_text(json.dumps(content, indent=1))


def say(folder: Path, line: str) -> None:
    path = folder / "console.txt"
    path.write_text(f"[   30.000000] {line}\n{path.read_text()}")


@pytest.mark.parametrize("name", REAL)
def test_a_real_bundle_is_told_for_what_it_is(name: str) -> None:
    finding, words = REAL[name]
    found = diagnose(BUNDLES / name)
    assert found.finding == finding
    assert words in found.text
    assert found.lines, "a diagnosis without proof"


@pytest.mark.parametrize("name", REAL)
def test_each_line_of_proof_is_a_line_of_the_bundle(name: str) -> None:
    for line in diagnose(BUNDLES / name).lines:
        file, number, text = line.split(":", 2)
        there = (BUNDLES / name / file).read_text().splitlines()[int(number) - 1]
        assert there.strip().startswith(text.strip())


def test_two_bundles_that_change_places_change_diagnoses(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    shutil.copytree(BUNDLES / "virtio-d1", one)
    shutil.copytree(BUNDLES / "e1000-d2", other)
    before = diagnose(one), diagnose(other)
    one.rename(tmp_path / "kept")
    other.rename(one)
    (tmp_path / "kept").rename(other)
    after = diagnose(one), diagnose(other)
    assert before[0].finding != before[1].finding
    assert after == (before[1], before[0])


def test_d1_names_the_worker_its_wait_and_what_waits_on_the_wire() -> None:
    text = diagnose(BUNDLES / "virtio-d1").text
    assert "stand still since 0.7 s of the guest's time, for 34 s" in text
    assert (
        "kworker (virtio_net's refill worker) in its own reclaim waits for a bio of the pool of two" in text
    )
    assert "DMA 206 pages of a floor of 208, DMA32 596 pages of a floor of 607" in text
    assert "512 frames wait for a NIC that takes none" in text
    assert "the guest sent 7 times again what the server had acknowledged" in text


def test_the_refill_worker_decides_though_the_zone_is_at_the_floor_too() -> None:
    known = known_of(read_bundle(BUNDLES / "virtio-d1"))
    assert diagnosis._ring_starves(known) is not None
    assert diagnose(BUNDLES / "virtio-d1").finding == "D1"


def test_zones_above_the_floor_are_no_d2(copied: Callable[[str], Path]) -> None:
    folder = copied("e1000-d2")
    zones = json.loads((folder / "zones.json").read_text())
    (folder / "zones.json").write_text(
        json.dumps([zone | {"free": zone["floor"] + 500} for zone in zones], indent=1)
    )
    found = diagnose(folder)
    assert found.finding is None
    assert "None of the known ways fits" in found.text


def test_a_driver_that_uses_the_reserve_is_no_d2(copied: Callable[[str], Path]) -> None:
    folder = copied("e1000-d2")
    change(folder / "trial.json", nic="vmxnet3")
    assert diagnose(folder).finding is None


def test_a_ring_that_cannot_be_refilled_comes_before_heads_that_cannot_be_had(
    copied: Callable[[str], Path],
) -> None:
    folder = copied("e1000-d2")
    say(folder, "  cache: skbuff_head_cache, object size: 232, buffer size: 256")
    say(folder, "SLUB: Unable to allocate memory on CPU 0 (of node 0) on node -1, gfp=0x820(GFP_ATOMIC)")
    assert diagnose(folder).finding == "D2"
    change(folder / "trial.json", nic="vmxnet3")
    assert diagnose(folder).finding == "D3"


def test_an_empty_reserve_is_nobodys_finding(copied: Callable[[str], Path]) -> None:
    folder = copied("e1000-d2")
    change(folder / "trial.json", nic="vmxnet3")
    zones = json.loads((folder / "zones.json").read_text())
    (folder / "zones.json").write_text(json.dumps([zone | {"free": 9} for zone in zones], indent=1))
    found = diagnose(folder)
    assert found.finding is None
    assert "The reserve itself is empty" in found.text
    assert "Nothing is left (18 pages)" in found.text


def test_tcp_mem_full_with_free_pages_is_d13(copied: Callable[[str], Path]) -> None:
    folder = copied("server-stopped")
    change(folder / "wire.json", server_state="S")
    readings = {"of_guest": {}, "from_memory": {"tcp_mem": 4003}, "limits": {"tcp_mem": "4000 4000 4000"}}
    (folder / "readings.json").write_text(json.dumps(readings, indent=1))
    found = diagnose(folder)
    assert found.finding == "D13"
    assert "hold 4003 pages of tcp_mem's 4000, while no zone is short" in found.text
    readings["from_memory"] = {"tcp_mem": 3999}
    (folder / "readings.json").write_text(json.dumps(readings, indent=1))
    assert diagnose(folder).finding is None


def test_kswapd_in_its_own_writes_is_d16_while_replies_come(copied: Callable[[str], Path]) -> None:
    folder = copied("server-stopped")
    change(folder / "wire.json", server_state="S", stats__last_reply_s=0.4)
    assert diagnose(folder).finding == "D16"


# Each of these lays one more cause over a real D1: what is nearer to the root wins.
def paused(folder: Path) -> None:
    change(folder / "emulator.json", status__status="paused")


def stopped(folder: Path) -> None:
    change(folder / "wire.json", server_state="T")


def ended(folder: Path) -> None:
    change(folder / "wire.json", server_state="")


def panicked(folder: Path) -> None:
    say(folder, "Kernel panic - not syncing: System is deadlocked on memory")


def killed(folder: Path) -> None:
    say(folder, "Out of memory: Killed process 137 (init) total-vm:25804kB, anon-rss:24576kB")


def cut(folder: Path) -> None:
    change(folder / "wire.json", talk__reset_by="server")
    say(folder, "block nbd0: Receive control failed (result -104)")


LADDER = (
    (paused, "guest paused"),
    (ended, "server ended"),
    (stopped, "server stopped"),
    (panicked, "panic"),
    (killed, "OOM"),
    (cut, "connection gone"),
)


@pytest.mark.parametrize("said", [
    "connection1:0: detected conn error (1022)",
    "nvme nvme0: starting error recovery",
    "block nbd0: Connection timed out",
])  # fmt: skip
def test_a_connection_that_was_given_up_in_a_wedge_is_its_consequence(
    copied: Callable[[str], Path], said: str
) -> None:
    folder = copied("virtio-d1")
    say(folder, said)
    assert diagnose(folder).finding == "D1"
    (folder / "blocked-2.txt").unlink()
    assert diagnose(folder).finding == "D9-reconnect"


@pytest.mark.parametrize("at", range(len(LADDER)))
def test_the_order_of_causes(copied: Callable[[str], Path], at: int) -> None:
    folder = copied("virtio-d1")
    for lay, _ in reversed(LADDER[at + 1 :]):
        if not (lay is stopped and LADDER[at][0] is ended):  # a process is one or the other
            lay(folder)
    assert not diagnose(folder).fingerprint.startswith(LADDER[at][1])
    LADDER[at][0](folder)
    assert diagnose(folder).fingerprint.startswith(LADDER[at][1])


def test_a_killed_program_is_told_with_request_zone_swap_and_who_held_memory(
    copied: Callable[[str], Path],
) -> None:
    folder = copied("oom")
    change(folder / "trial.json", peak_udp_mem_pages=5120)
    found = diagnose(folder)
    assert "It reports a request GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO of order 0" in found.text
    assert "zone DMA32 of node 0 with 692 kB free of a min of 752 kB, and 236 kB of swap free" in found.text
    assert "Sockets held up to udp_mem 5120 pages (20 MiB)" in found.text


def test_a_kill_that_only_the_counter_saw(copied: Callable[[str], Path]) -> None:
    folder = copied("oom")
    (folder / "console.txt").write_text("")
    assert "killed a program for want of memory; the console does not say which" in diagnose(folder).text


def test_equal_failures_have_equal_fingerprints(copied: Callable[[str], Path]) -> None:
    """Other addresses, other times and another number of victims are no other failure."""
    folder = copied("virtio-d1")
    first = diagnose(folder).fingerprint
    path = folder / "blocked-2.txt"
    text = path.read_text().replace("/0x1b0", "/0x2c0").replace("[   41.", "[   99.")
    path.write_text(text[: text.index("task:init")].rsplit("\n", 1)[0] + "\n")
    assert diagnose(folder).fingerprint == first
    expected = [
        "D1",
        "balance_pgdat>swap_writepage>bio_alloc_bioset",
        "refill_work>swap_writepage>bio_alloc_bioset",
    ]
    assert first.split(" | ") == expected
    assert diagnose(BUNDLES / "e1000-d2").fingerprint != first


def test_a_panic_is_told_by_its_words_without_addresses(copied: Callable[[str], Path]) -> None:
    folder = copied("virtio-d1")
    say(folder, "BUG: unable to handle page fault for address: ffffc90000a1b000")
    assert diagnose(folder).fingerprint == "panic: BUG: unable to handle page fault for address: N"


def test_a_bare_bundle_says_what_is_known_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "trial.json").write_text(
        '{"verdict": "WEDGED", "guest_ms": 60000, "longest_stall_ms": 42000}'
    )
    found = diagnose(tmp_path)
    assert found.finding is None
    assert found.text == (
        "The load and all swapping stand still since 18.0 s of the guest's time, for 42 s, at 0 of 0 steps. "
        "None of the known ways fits."
    )


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"trial\.json"):
        diagnose(tmp_path)


def test_a_file_that_is_torn(copied: Callable[[str], Path]) -> None:
    folder = copied("virtio-d1")
    (folder / "wire.json").write_text('{"stats": {')
    with pytest.raises(BadInput, match=r"wire\.json"):
        diagnose(folder)


def test_the_result_and_the_folder_say_the_same(copied: Callable[[str], Path]) -> None:
    folder = copied("virtio-d1")
    content = json.loads((folder / "trial.json").read_text())
    result = TrialResult(
        case="deadlock", arm="stock", kernel="6.12.117", kernel_name="trixie-cloud", kernel_sha256="", seed=2,
        nic="virtio-net-pci", transport="nbd", verdict=Verdict.WEDGED, reason=content["reason"],
    )  # fmt: skip
    told = diagnosed(result, folder)
    written = json.loads((folder / "trial.json").read_text())
    again: Diagnosis = diagnose(folder)
    assert (told.finding, told.diagnosis, told.fingerprint) == (again.finding, again.text, again.fingerprint)
    assert (written["finding"], written["diagnosis"], written["evidence"]) == ("D1", again.text, "virtio-d1")
    assert (folder / "diagnosis.txt").read_text().startswith(again.text)
