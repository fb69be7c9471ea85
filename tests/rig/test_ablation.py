"""Single parts of the reserve taken out of a kernel's text: on code made by hand, and out of stock kernels."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.case_trial import TrialArm
from tidegate.errors import BadInput, Lacking, Unsupported
from tidegate.rig import ablation, kernels, measures, ram
from tidegate.rig.ablation import ABLATIONS, After, Patch, Text
from tidegate.rig.gdb_stub import SOCKET, attached
from tidegate.rig.tools import missing
from tidegate.trial import Job

pytest.importorskip("capstone")

AT = 0xFFFFFFFF81000100
NOP5 = "0f1f440000"


def text(code: str, **known: object) -> Text:
    return Text(name="f", address=AT, code=bytes.fromhex(code), pfmemalloc=(0x7E, 0x40), **known)  # type: ignore[arg-type]


def changes(found: object) -> list[tuple[int, str, str]]:
    assert isinstance(found, list)
    assert all(isinstance(one, Patch) for one in found)
    return [(one.address - AT, one.was.hex(), one.becomes.hex()) for one in found]


@pytest.mark.parametrize(
    ("code", "value", "expected"),
    [
        (NOP5 + "4157", None, (0, NOP5, "c390909090")),
        (NOP5 + "4157", 0, (0, NOP5, "31c0c39090")),
        ("f30f1efa" + NOP5 + "4157", 0, (4, NOP5, "31c0c39090")),
        ("e80baf8eff4157", None, (0, "e80baf8eff", "c390909090")),  # the image before ftrace has seen it
    ],
)
def test_a_function_returns_at_its_first_instruction(
    code: str, value: int | None, expected: tuple[int, str, str]
) -> None:
    assert changes(ablation.returns(value, text(code))) == [expected]


def test_a_first_instruction_that_is_too_short_is_refused() -> None:
    assert changes(ablation.returns(None, text("554889e5"))) == [(0, "55", "c3")]
    with pytest.raises(Unsupported, match="f: found 554889e5 at its start, expected a NOP"):
        ablation.returns(0, text("554889e5"))
    with pytest.raises(Unsupported):
        ablation.returns(0, text(""))


TEST = "f6467e40"  # test byte [rsi+0x7e], 0x40
JNE = "0f854f010000"


def test_the_test_of_the_mark_loses_its_mask() -> None:
    found = ablation.never_marked(1, text("4889fb" + TEST + JNE + "c3"))
    assert changes(found) == [(3, TEST, "f6467e00")]
    assert changes(ablation.never_marked(1, text(TEST + "7402" + "c3"))) == [(0, TEST, "f6467e00")]


def test_the_mark_may_be_loaded_first_and_masked_later() -> None:
    # movzx ebp, byte [rsi+0x7e]; call; and ebp, 0x40
    found = ablation.never_marked(1, text("0fb66e7e" + "e800000000" + "83e540" + "7402" + "c3"))
    assert changes(found) == [(9, "83e540", "83e500")]
    with pytest.raises(Unsupported):  # another register
        ablation.never_marked(1, text("0fb66e7e" + "83e040" + "7402" + "c3"))


@pytest.mark.parametrize(
    "code",
    [
        "f6467e20" + JNE + "c3",  # another bit
        "f6467d40" + JNE + "c3",  # another byte
        TEST + "90" + JNE + "c3",  # nothing jumps on it
        TEST + JNE + TEST + JNE + "c3",  # twice
        "",
    ],
)
def test_code_that_is_not_as_expected_is_refused(code: str) -> None:
    with pytest.raises(
        Unsupported, match=r"f: found [02] tests of skb->pfmemalloc \(byte 0x7e, bit 0x40\), expected 1"
    ):
        ablation.never_marked(1, text(code))


def test_the_watermark_is_heeded() -> None:
    flags, node = "f644244c04", "f605e06cab0107"  # test byte [rsp+0x4c], 4; test byte [rip+x], 7
    zone = "f6431004" + JNE  # another word with the same bit
    found = ablation.keeps_watermarks(text(zone + flags + "0f853cf0ffff" + node + "7402" + "c3"))
    assert changes(found) == [(10, flags, "f644244c00")]
    with pytest.raises(Unsupported, match="found 0 tests of ALLOC_NO_WATERMARKS"):
        ablation.keeps_watermarks(text(zone + flags + "0f853cf0ffff" + "90" + node + "7402" + "c3"))


def test_one_call_is_left_out() -> None:
    # In 64-bit code a relative call of 0 goes to what follows it.
    target = {"g": AT + 8}
    assert changes(ablation.never_calls("g", text("909090e80000000090c3", targets=target))) == [
        (3, "e800000000", NOP5)
    ]
    assert changes(ablation.never_calls("g", text("909090e900000000", targets=target))) == [
        (3, "e900000000", "c390909090")
    ]
    with pytest.raises(Unsupported, match="found 0 calls of g"):
        ablation.never_calls("g", text("909090e801000000c3", targets=target))


def test_a_removal_that_is_none_is_bad_input() -> None:
    measures.check_measures(TrialArm(name="a", measures=("ablate:skb-reserve",)), "case.toml", "arm")
    with pytest.raises(
        BadInput, match=r"arm\.measures: found 'ablate:nope', expected ablate: and one of sk_set_"
    ):
        measures.check_measures(TrialArm(name="a", measures=("ablate:nope",)), "case.toml", "arm")


def test_what_is_seen_at_the_end_is_told_and_a_contradiction_too() -> None:
    names = ("sk_set_memalloc", "pfmemalloc-drop", "alloc-no-watermarks", "tcp-rmem")
    seen = After(key=0, readings={"pfmemalloc_drop": 0}, margin_pages=7)
    told, trouble = ablation.effects(names, seen)
    assert trouble == ""
    assert told["ablate:sk_set_memalloc: effect"] == "memalloc_socks_key is 0 at the end"
    assert told["ablate:alloc-no-watermarks: effect"].startswith("lowest margin 7 pages")
    assert told["ablate:tcp-rmem: effect"] == "nothing in the guest shows it"
    told, trouble = ablation.effects(names, replace(seen, key=2))
    assert (
        trouble == "ablate:sk_set_memalloc was not in force: memalloc_socks_key is 2 at the end, expected 0"
    )


def test_the_table_names_removals_that_are_there() -> None:
    assert {name for _hunk, _mainline, name in ablation.table() if name} == set(ABLATIONS)
    assert all(hunk or mainline for hunk, mainline, _name in ablation.table())


def goes_on(memory: ram.KernelMemory, stood: int) -> bool:
    until = time.monotonic() + 20
    while ram.jiffies(memory) == stood and time.monotonic() < until:
        time.sleep(0.05)
    return ram.jiffies(memory) != stood


@pytest.mark.vm
@pytest.mark.parametrize("kernel", ["trixie-cloud", "bookworm-cloud"])
def test_all_of_them_in_a_stock_kernel(tmp_path: Path, kernel: str) -> None:
    """All places are found and written; a connection made then leaves memalloc_socks_key as it was."""
    from tidegate.rig.connecting import connect
    from tidegate.rig.one_trial import network
    from tidegate.rig.trial_guest import booted
    from tidegate.rig.tried import far_of, tried_job
    from tidegate.rig.wire import far_side

    if absent := missing(["qemu-system-x86_64", "nbdkit", "busybox", "gcc", "unshare"]):
        pytest.skip(f"this machine lacks {', '.join(absent)}")
    if kernel not in {one.name for one in kernels.cached()}:
        pytest.skip(f"{kernel} is not cached here")
    tried = tried_job(Job(case="deadlock", arm="quiet", kernel=kernel, nic="", transport="", seed=1))
    shape = replace(tried.shape, gdb=True)
    with far_side(far_of(tried, tmp_path)), booted(shape, tmp_path) as (guest, _command):
        guest.await_ready(time.monotonic() + 180)
        with ram.GuestRam([tmp_path / "ram0"]) as seen:
            memory = ram.KernelMemory(seen, ram.layout(tried.kernel))
            told = ablation.apply(tuple(ABLATIONS), guest, tried.kernel, memory)
            assert set(told) == {f"ablate:{name}" for name in ABLATIONS}
            assert all(" bytes, was " in line and line.endswith("read back") for line in told.values())
            with pytest.raises((Unsupported, Lacking)):  # what is gone cannot be taken out again
                ablation.apply(["pfmemalloc-drop"], guest, tried.kernel, memory)
            network(guest)
            connect(guest, tried.trial, ())
            assert ablation.after(tried.kernel, memory, {}, None).key == 0
            with attached(tmp_path / SOCKET) as stub:
                stub.use_physical_addresses()
                stands = ram.jiffies(memory)
                banner = memory.layout.symbols["linux_banner"]
                assert stub.read(memory.physical(banner), 14) == b"Linux version "
                time.sleep(0.5)
                assert ram.jiffies(memory) == stands
                stub.go_on()
                assert goes_on(memory, stands)
                assert stub.halt().startswith(b"T02")
                stands = ram.jiffies(memory)
            assert goes_on(memory, stands)


@pytest.mark.vm
def test_without_a_removal_the_same_connection_turns_the_key(tmp_path: Path) -> None:
    from tidegate.rig.connecting import connect
    from tidegate.rig.one_trial import network
    from tidegate.rig.trial_guest import booted
    from tidegate.rig.tried import far_of, tried_job
    from tidegate.rig.wire import far_side

    if absent := missing(["qemu-system-x86_64", "nbdkit", "busybox", "gcc", "unshare"]):
        pytest.skip(f"this machine lacks {', '.join(absent)}")
    if "trixie-cloud" not in {one.name for one in kernels.cached()}:
        pytest.skip("trixie-cloud is not cached here")
    tried = tried_job(Job(case="deadlock", arm="quiet", kernel="trixie-cloud", nic="", transport="", seed=1))
    with far_side(far_of(tried, tmp_path)), booted(tried.shape, tmp_path) as (guest, _command):
        guest.await_ready(time.monotonic() + 180)
        with ram.GuestRam([tmp_path / "ram0"]) as seen:
            memory = ram.KernelMemory(seen, ram.layout(tried.kernel))
            network(guest)
            connect(guest, tried.trial, ())
            assert ablation.after(tried.kernel, memory, {}, None).key > 0
