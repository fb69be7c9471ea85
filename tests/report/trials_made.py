"""Results of trials, made by hand as the rig would make them, and counted here by other code than the rig's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median_low

from tidegate.trial import COUNTED, FAILURES, Second, Tally, TrialResult, Trials, Verdict, ZoneMargin

CODE = "c0de" * 16
HOSTILE = "x\x1b[31m</script><img src=x onerror=alert(1)>\"'&--> # \u202eé"
QEMU = (
    "qemu-system-x86_64 -machine pc -accel tcg -m 112 -object memory-backend-file,id=ram,size=112M,share=on,"
    "mem-path=/dev/shm/trial/ram -kernel vmlinuz -initrd initramfs -append 'console=ttyS0 panic=-1' "
    "-netdev dgram,id=n0,local.type=unix,local.path=guest -device virtio-net-pci,netdev=n0"
)
FLOOR = 421


def seconds(verdict: Verdict, length: int = 90) -> tuple[Second, ...]:
    """Free memory that falls while the load runs and the flood is kept; a failure stays down, the rest recovers."""
    made = []
    done = 0
    for at in range(length):
        storm = 12 <= at < 55
        failed = verdict in FAILURES and at > 30
        free = max(14_000 - 900 * at, 900) if at < 20 else 900 if not storm else 620
        if failed:
            free = 300 + at % 7
        elif at >= 55:
            free = 2_400
        done += 0 if failed else 220
        made.append(
            Second(
                guest_ms=1000 * at,
                free_pages=free,
                slack_pages=free - FLOOR,
                done_pages=done,
                swapped_out_pages=done * 2 // 3,
                swapped_in_pages=done // 3,
                udp_mem_pages=min(90 * (at - 12), 2_900) if storm or (failed and at >= 12) else 0,
                tcp_mem_pages=40 + at % 5,
            )
        )
    return tuple(made)


def result(verdict: Verdict, seed: int = 1, *, arm: str = "stock", **more: object) -> TrialResult:
    """One trial with everything that the rig writes."""
    failed = verdict in FAILURES
    curve = seconds(verdict)
    made = TrialResult(
        case="swap-over-nbd",
        arm=arm,
        kernel="6.12.38+deb13-cloud-amd64",
        kernel_name="trixie-cloud",
        kernel_sha256="9f2c" * 16,
        nic="virtio-net-pci",
        transport="nbd",
        seed=seed,
        verdict=verdict,
        reason={
            Verdict.SURVIVED: "all 24,576 pages were written and read back",
            Verdict.INCONCLUSIVE: "the storm was not there: socket memory never exceeded 12 pages",
            Verdict.LOST: "QEMU was killed by signal 9",
        }.get(verdict, "no step and no page swapped for 60 s of the guest's clock after the storm"),
        margin_pages=min(one.slack_pages for one in curve) - seed if verdict in COUNTED else None,
        zones=(
            ZoneMargin(
                node=0,
                zone="DMA32",
                managed_pages=23_040,
                min_pages=1_123,
                floor_pages=FLOOR,
                lowest_free_pages=300,
            ),
        ),
        expected="SURVIVED" if arm == "plan" else "FAIL" if arm == "stock" else None,
        settings={"vm.min_free_kbytes": "65536"} if arm == "plan" else {},
        guest_ms=89_000,
        longest_stall_ms=58_000 if failed else 1_200,
        done_pages=curve[-1].done_pages,
        wanted_pages=24_576,
        storm_packets=258_000,
        peak_udp_mem_pages=2_900,
        peak_tcp_mem_pages=44,
        finding="D1" if failed else None,
        diagnosis=(
            "nbd0's receiver waits in sock_recvmsg while the ring of eth0 cannot be refilled: page_frag_alloc fails "
            "with GFP_ATOMIC, the reply of the server is dropped, and every task waits in swap_writepage."
            if failed
            else None
        ),
        fingerprint="swap_writepage nbd_send_cmd" if failed else None,
        check="AT_RISK" if arm == "plan" else None,
        evidence=f"evidence/{arm}-{seed}" if failed else None,
        seconds=curve,
        host_mib=184,
        wall_s=92.5,
        command=QEMU,
        code=CODE,
        started=f"2026-11-24T18:0{seed % 10}:00Z",
    )
    return replace(made, **more)  # type: ignore[arg-type]


def wilson(failed: int, n: int) -> tuple[float, float]:
    if not n:
        return 0.0, 1.0
    z = 1.959964
    share = failed / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def tally(results: Sequence[TrialResult]) -> Tally:
    """Of trials that are all of one arm in one place."""
    first = results[0]
    counts = Counter(one.verdict for one in results)
    n = sum(counts[verdict] for verdict in COUNTED)
    failed = sum(counts[verdict] for verdict in FAILURES)
    low, high = wilson(failed, n)
    margins = [one.margin_pages for one in results if one.margin_pages is not None]
    met: bool | None = None
    if first.expected is not None and n:
        if first.expected == "SURVIVED":
            met = counts[Verdict.SURVIVED] == n
        else:
            met = 2 * (failed if first.expected == "FAIL" else counts[Verdict(first.expected)]) > n
    return Tally(
        case=first.case,
        arm=first.arm,
        kernel_name=first.kernel_name,
        nic=first.nic,
        transport=first.transport,
        sweep=dict(first.sweep),
        counts={verdict.value: number for verdict, number in counts.items()},
        failed=failed,
        n=n,
        failed_low=low,
        failed_high=high,
        margin_lowest_pages=min(margins, default=None),
        margin_median_pages=median_low(margins) if margins else None,
        expected=first.expected,
        met=met,
        p_against_stock=0.0152 if first.arm == "plan" else None,
    )


def trials(results: Iterable[TrialResult]) -> Trials:
    found = tuple(results)
    groups: dict[tuple[object, ...], list[TrialResult]] = {}
    for one in found:
        key = (one.case, one.arm, one.kernel_name, one.nic, one.transport, tuple(sorted(one.sweep.items())))
        groups.setdefault(key, []).append(one)
    return Trials(tallies=tuple(tally(group) for group in groups.values()), results=found)


def run(arm: str, words: str, **more: object) -> list[TrialResult]:
    """`WWWS` as trials of one arm: the first letters of their verdicts, T for STALLED."""
    by_letter = dict(zip("PWOTSIL", Verdict, strict=True))
    return [result(by_letter[letter], seed, arm=arm, **more) for seed, letter in enumerate(words, 1)]


def campaign() -> Trials:
    """Two NICs and a sweep of delay: as hoped but for one protected trial, with trials that do not count."""
    found = run("stock", "WWWWSW") + run("plan", "SSSSSS") + run("tenfold", "WOSTSW")
    found += run("stock", "WPWWOLI", nic="e1000") + run("plan", "SSWSST", nic="e1000")
    for delay, words in ((0, "SSSSSW"), (1_000, "SSWSWS"), (50_000, "WWSWWS"), (200_000, "WWWWWW")):
        found += run("stock", words, case="delay", sweep={"delay_us": delay})
        found += run("plan", "SSSSSS", case="delay", sweep={"delay_us": delay})
    return trials(found)


def met() -> Trials:
    return trials(run("stock", "WWWWSW") + run("plan", "SSSSSS"))


def one() -> Trials:
    return trials([result(Verdict.WEDGED, 7)])


def nothing() -> Trials:
    return trials([])


def uncounted() -> Trials:
    return trials(run("stock", "II") + run("plan", "LI"))


def hostile() -> Trials:
    """Names and texts that would break out of every format."""
    words = {
        "reason": HOSTILE,
        "diagnosis": HOSTILE,
        "finding": HOSTILE,
        "check": HOSTILE,
        "fingerprint": HOSTILE,
        "command": HOSTILE,
        "kernel": HOSTILE,
    }
    places = {"case": HOSTILE, "nic": HOSTILE, "transport": HOSTILE, "kernel_name": HOSTILE}
    more = words | places | {"evidence": HOSTILE, "kernel_sha256": HOSTILE, "sweep": {HOSTILE: 1}}
    more |= {"settings": {HOSTILE: HOSTILE}, "started": HOSTILE}
    made = run("stock", "WISL", **more) + run("plan", "WS", **more)
    return trials(replace(one, arm=f"{one.arm} {HOSTILE}") for one in made)


ALL = (campaign, met, one, nothing, uncounted, hostile)
