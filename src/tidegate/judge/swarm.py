"""Machines, designs, traffic and faults drawn by chance: some faults off, others very likely, storm then calm.

Cases written by hand show what their author thought of. A swarm looks elsewhere: each seed is a small machine of its
own, and what `laws.broken_laws` says of it beforehand must not be contradicted by the run. What contradicts it is
shrunk: parts are taken out and numbers made smaller as long as the surprise stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from tidegate.case import Case, check_case
from tidegate.design import Design, Refill
from tidegate.designs import DESIGNS
from tidegate.errors import BadInput
from tidegate.judge.laws import broken_laws
from tidegate.judge.seeds import Runner, Task
from tidegate.need import capacity_needed
from tidegate.simulation import Run, Surprise, Swarm, SwarmRow, Word

BATCH = 200  # seeds that are drawn and handed out at a time, so that memory does not grow with their number
SHRINK_RUNS_MAX = 400
STARVING_DROPS = {"RX_MISSED", "CPU_BACKLOG", "WIRE", "RX_NOBUF", "SOCKET_RCVBUFF", "SOFTNET_THROTTLE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One seed's machine and design."""

    seed: int
    case: Case
    design: Design
    broken: tuple[str, ...]  # laws


def draw(seed: int, designs: tuple[Design, ...]) -> Drawn:
    """The machine and design of a seed; the same for ever, as long as this function is the same."""
    rng = Random(seed)  # noqa: S311 - chance that can be repeated
    tame = _some(rng, 50)  # half of the seeds are machines on which the laws can hold
    able = [one for one in designs if one.throttle or one.caps] if tame else []
    design = rng.choice(able or designs)
    while True:
        table = _table(rng, seed)
        if tame:
            _tame(table)
        case = msgspec.convert(table, Case)
        need = capacity_needed(case, whole_ring=design.refill is Refill.RING, acks=design.memalloc_acks)
        if tame or _some(rng, 50):  # a reserve in which every user has room, sometimes to the page
            table["machine"]["reserve_pages"] = need + rng.choice((0, 0, 3, 20, 60))
            case = msgspec.convert(table, Case)
        try:
            check_case(case, case.name)
        except BadInput:  # a machine that cannot be: draw again
            continue
        return Drawn(seed=seed, case=case, design=design, broken=broken_laws(case, design))


def _tame(table: dict[str, Any]) -> None:
    """Takes out what breaks a law on any design."""
    table["machine"] |= {"raise_min": True, "tcp_mem_pages": 0, "page_per_skb": True, "buddy": "count"}
    if table["nic"]["access"] == "never":
        table["nic"]["access"] = "key"
    table["hook"] = [one for one in table["hook"] if one["kind"] != "tap"]
    for user in table["user"]:
        user["memalloc"] = True
    for fault in ("reset_ms", "eater_pages", "eater_ms", "admin_ms", "admin_min_pages"):
        table["faults"].pop(fault, None)


def _some(rng: Random, percent: int) -> bool:
    return rng.randrange(100) < percent


def _table(rng: Random, seed: int) -> dict[str, Any]:
    """Swarm options: each part is left out altogether in many seeds, and strong where it is there."""
    ring = rng.choice((8, 16, 24, 32))
    reserve = ring + rng.choice((4, 12, 24, 48, 80))
    storm_ms = rng.choice((200, 300, 500))
    return {
        "claim": "where the three laws hold, no run ends STUCK",
        "source": "drawn by chance",
        "name": f"swarm-{seed}",
        "machine": {
            "pages": rng.choice((512, 768, 1024)),
            "programs_pages": rng.choice((0, 64)),
            "min_pages": rng.choice((0, 0, 0, 48)),
            "reserve_pages": reserve,
            "raise_min": not _some(rng, 5),
            "page_per_skb": _some(rng, 60),
            "buddy": "lists" if _some(rng, 10) else "count",
            "packet_ns": rng.choice((2_000, 4_000, 20_000)),
            "backlog_packets": rng.choice((20, 100, 300)),
            "tcp_mem_pages": rng.choice((64, 200)) if _some(rng, 6) else 0,
        },
        "nic": _nic(rng, ring),
        "user": [_user(rng, number, storm_ms) for number in range(2 if _some(rng, 25) else 1)],
        "traffic": [_traffic(rng, storm_ms) for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))],
        "hook": [_hook(rng) for _ in range(1 if _some(rng, 12) else 0)],
        "load": {"programs": rng.choice((1, 2, 4, 8)), "dirty_us": rng.choice((10, 50, 200))},
        "faults": _faults(rng, storm_ms),
        "run": {"storm_ms": storm_ms, "gap_ms": storm_ms // 2},
    }


def _nic(rng: Random, ring: int) -> dict[str, Any]:
    return {
        "driver": rng.choice(("copy", "recycle", "empty", "empty", "pool", "worker")),
        "delivery": rng.choice(("netif_rx", "napi")),
        "access": rng.choice(("key", "key", "key", "always", "never")),
        "ring": ring,
        "buffer_bytes": rng.choice((2048, 2048, 4096, 9216)) if _some(rng, 50) else 2048,
        "copybreak_bytes": rng.choice((0, 0, 256)),
    }


def _user(rng: Random, number: int, storm_ms: int) -> dict[str, Any]:
    late = number > 0 and _some(rng, 40)
    return {
        "name": f"disk{number}",
        "transport": rng.choice(("nbd", "nbd", "iscsi")),
        "connections": rng.choice((1, 1, 2, 4)),
        "request_pages": rng.choice((1, 1, 2, 8)),
        "queue_depth": rng.choice((4, 32, 128, 512)),
        "reads_percent": rng.choice((10, 50)) if _some(rng, 25) else 0,
        "readahead_pages": rng.choice((1, 4, 8)),
        "sndbuf_bytes": rng.choice((16_384, 131_072, 1_048_576)),
        "rcvbuf_bytes": rng.choice((65_536, 262_144)),
        "service_us": rng.choice((50, 500, 2_000)),
        "latency_us": rng.choice((50, 500, 10_000)),
        "unasked_per_s": rng.choice((10, 500)) if _some(rng, 12) else 0,
        "memalloc": not _some(rng, 5),
        "mirror": 2 if _some(rng, 8) else 1,
        "encrypts": _some(rng, 10),
        "connects_ms": storm_ms // 3 if late else 0,
        "leaves_ms": storm_ms * 2 // 3 if number and _some(rng, 30) else 0,
    }


def _traffic(rng: Random, storm_ms: int) -> dict[str, Any]:
    return {
        "protocol": rng.choice(("tcp", "tcp", "tcp", "udp", "icmp", "ipv6", "raw", "forward", "fragment")),
        "packets_per_s": rng.choice((2_000, 10_000, 40_000)),
        "burst": rng.choice((1, 1, 16, 128)),
        "length_bytes": rng.choice((66, 1514)),
        "sockets": rng.choice((1, 8, 32)),
        "rcvbuf_bytes": rng.choice((32_768, 131_072, 1_048_576)),
        "read_ms": rng.choice((5, 50)) if _some(rng, 30) else 0,
        "sender_reads": _some(rng, 20),
        "from_ms": rng.choice((0, 10, 40, storm_ms // 3)),
    }


def _hook(rng: Random) -> dict[str, Any]:
    return {
        "kind": rng.choice(("tap", "filter", "bridge")),
        "rcvbuf_bytes": rng.choice((32_768, 262_144)),
        "read_ms": rng.choice((0, 20)),
    }


def _faults(rng: Random, storm_ms: int) -> dict[str, Any]:
    faults: dict[str, Any] = {}
    if _some(rng, 25):
        faults["loss_ppm"] = rng.choice((1_000, 20_000, 100_000))
    if _some(rng, 25):
        faults |= {"reorder_ppm": rng.choice((10_000, 300_000)), "reorder_us": rng.choice((200, 5_000))}
    if _some(rng, 12):
        faults |= {"stall_from_ms": storm_ms // 4, "stall_ms": storm_ms // 2}
    if _some(rng, 6):
        faults["reset_ms"] = storm_ms // 2
    if _some(rng, 8):
        faults |= {"eater_pages": rng.choice((8, 64)), "eater_ms": rng.choice((0, 5))}
    if _some(rng, 6):
        faults |= {"admin_ms": storm_ms // 2, "admin_min_pages": rng.choice((8, 100))}
    return faults


def surprise(drawn: Drawn, run: Run) -> str | None:
    """What contradicts the laws, in one sentence; None where nothing does."""
    if run.word is Word.STUCK and not drawn.broken:
        return f"STUCK, and no law is broken: {run.reason}"
    if run.word is Word.LUCKY and not drawn.broken and not _may_starve(drawn.case, run):
        return f"LUCKY, and neither a law is broken nor a packet of block IO was lost: {run.reason}"
    if run.word is Word.SEEN and not any(user.completed for user in run.users):
        due = run.steps.get("submit_bio", 0)
        return "SEEN, and nothing completed" if due else None
    return None


def _may_starve(case: Case, run: Run) -> bool:
    """Whether the wire, the ring or a server that stalls explains a gap; fairness speaks of these (C and L)."""
    return bool(STARVING_DROPS & run.block_drops.keys()) or case.faults.stall_ms > 0


def shrink(drawn: Drawn, still: Callable[[Drawn], bool]) -> Drawn:
    """A smaller case with the same surprise: parts out, then numbers to their defaults, as long as `still` says so."""
    best = drawn
    runs = 0
    changed = True
    while changed and runs < SHRINK_RUNS_MAX:
        changed = False
        for table in _smaller(msgspec.to_builtins(best.case)):
            try:
                case = msgspec.convert(table, Case)
                check_case(case, case.name)
            except (msgspec.ValidationError, BadInput):
                continue
            tried = Drawn(
                seed=drawn.seed, case=case, design=drawn.design, broken=broken_laws(case, drawn.design)
            )
            runs += 1
            if runs > SHRINK_RUNS_MAX:
                break
            if still(tried):
                best, changed = tried, True
                break
    return best


def _smaller(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    plain = msgspec.to_builtins(Case(claim="", source=""))
    for part in ("traffic", "hook", "user"):
        for at in range(len(table[part])):
            if part != "user" or len(table[part]) > 1:
                yield table | {part: [one for number, one in enumerate(table[part]) if number != at]}
    for part in ("faults", "load", "nic", "machine"):
        for key, value in table[part].items():
            if value != plain[part][key] and key not in {"pages", "reserve_pages", "ring"}:
                yield table | {part: table[part] | {key: plain[part][key]}}
    defaults = plain["user"][0]
    for at, user in enumerate(table["user"]):
        for key, value in user.items():
            if value != defaults[key] and key != "name":
                users = [*table["user"]]
                users[at] = user | {key: defaults[key]}
                yield table | {"user": users}


def swarm(
    first_seed: int,
    n: int,
    designs: tuple[Design, ...],
    run_tasks: Runner,
    *,
    tell: Callable[[int], None] | None = None,
) -> Swarm:
    """Runs `n` seeds from `first_seed`, and counts. A broken invariant raises AssertionError with its seed."""
    counts: dict[str, SwarmRow] = {}
    surprises = []
    events = done = 0
    # Another choice of designs draws other machines from the same seeds.
    chosen = "" if designs == tuple(DESIGNS.values()) else "".join(f" --design {one.name}" for one in designs)
    for start in range(first_seed, first_seed + n, BATCH):
        drawn = [draw(seed, designs) for seed in range(start, min(start + BATCH, first_seed + n))]
        tasks = [Task(case=one.case, design=one.design, seed=one.seed) for one in drawn]
        for one, run in zip(drawn, run_tasks(tasks), strict=True):
            row = counts.setdefault(
                one.design.name, SwarmRow(design=one.design.name, lawful={}, unlawful={}, stuck_by_law={})
            )
            _count(row, one, run)
            events += run.events
            done += 1
            what = surprise(one, run)
            if what is not None:
                repeat = f"tidegate swarm{chosen} --seed {one.seed} --seeds 1 --save surprise.toml"
                surprises.append(Surprise(seed=one.seed, design=one.design.name, what=what, repeat=repeat))
            if tell is not None:
                tell(done)
    return Swarm(
        first_seed=first_seed,
        n=n,
        rows=tuple(counts[name] for name in sorted(counts)),
        surprises=tuple(surprises),
        events=events,
    )


def _count(row: SwarmRow, drawn: Drawn, run: Run) -> None:
    words = row.unlawful if drawn.broken else row.lawful
    words[run.word.value] = words.get(run.word.value, 0) + 1
    if run.word is Word.STUCK:
        for law in sorted({line.split(":")[0] for line in drawn.broken}):
            row.stuck_by_law[law] = row.stuck_by_law.get(law, 0) + 1


def case_text(drawn: Drawn, word: str) -> str:
    """The machine of a seed as a case file with one arm.

    A case is flat tables of numbers and short texts, which TOML and JSON write alike; a writer for all of TOML would
    be a dependency for this alone.
    """
    table = msgspec.to_builtins(drawn.case)
    plain = msgspec.to_builtins(Case(claim="", source=""))
    lines = [f"claim = {_value(table['claim'])}", f"source = {_value(f'swarm, seed {drawn.seed}')}"]
    for part in ("machine", "nic", "load", "faults", "run"):
        lines += ["", f"[{part}]"]
        lines += [
            f"{key} = {_value(value)}" for key, value in table[part].items() if value != plain[part][key]
        ]
    for part in ("user", "traffic", "hook"):
        for one in table[part]:
            lines += ["", f"[[{part}]]", *(f"{key} = {_value(value)}" for key, value in one.items())]
    lines += ["", "[[arm]]", f"name = {_value(drawn.design.name)}", f"design = {_value(drawn.design.name)}"]
    lines += [f"expect.simulate = {_value(word)}"]
    return "\n".join(lines) + "\n"


def _value(value: bool | int | str) -> str:
    return msgspec.json.encode(value).decode()
