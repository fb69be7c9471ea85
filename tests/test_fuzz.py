"""No traceback, ever: real records with members turned to garbage that the manifest vouches for, all the way out.

Each number is one mutated record: members of a recorded host are changed, kept and read back as an archive is (so
the manifest's hashes are right and the parsers see the garbage), then checked, planned and printed in every form.

    TIDEGATE_FUZZ=2000 pytest tests/test_fuzz.py            2,000 records in place of the few of every run
    TIDEGATE_FUZZ=1 TIDEGATE_FUZZ_FROM=1234 pytest ...      repeats number 1234, as a failure says

The numbers are the seeds, so a number is the same record in every run of the same tree.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tidegate.check import check_record
from tidegate.errors import TidegateError
from tidegate.host.anonymise import anonymise
from tidegate.host.archive import from_files, record_files
from tidegate.host.opening import open_record
from tidegate.host.read import read_host
from tidegate.host.record import Member, Record, Status
from tidegate.plan import FORMATS, solve
from tidegate.report.changes import changes, changes_text
from tidegate.report.html import check_html
from tidegate.report.json import to_json
from tidegate.report.plan_formats import plan_file
from tidegate.report.plan_text import plan_text
from tidegate.report.prometheus import check_metrics
from tidegate.report.text import check_text, hosts_table
from tidegate.result import Verdict

HERE = Path(__file__).resolve().parent
RECORDS = [*sorted((HERE.parent / "hosts").glob("*.tar.xz")), HERE / "recorded/sos-nbd-swap.tar.xz"]

DEFAULT_RECORDS = 33  # each recorded host three times: some seconds
COUNT = int(os.environ.get("TIDEGATE_FUZZ", str(DEFAULT_RECORDS)))
FIRST = int(os.environ.get("TIDEGATE_FUZZ_FROM", "0"))

# What parsers trip over: numbers at and beyond every width, no numbers, signs, other scripts' digits, markup.
WORDS = (
    b"0", b"-1", b"1", b"4294967295", b"4294967296", b"18446744073709551615", b"18446744073709551616", b"9" * 400,
    b"9" * 5000, b"", b" ", b"\t", b"\n", b"-", b"--1", b"+1", b"0x", b"0xffffffffffffffff", b"1e9", b"nan", b"inf",
    b"1.5", b"1_0",
    "\u0663".encode(), "\u00b2".encode(), b"\xff\xfe", b"\0", b"(deleted)", b"../../..", b"/", b"a" * 3000, b"%s{}",
    b"<script>", b"\x1b[31m", b"\\040", b"\\777", b":", b"::", b"[::]:0", b"10.0.2.2", b"0.0.0.0", b"fe80::1%2",
    b"unlimited", b"max", b"swap", b"nbd0", b"sda", b"dm-0", b"Node 4294967296, zone   Normal", b"lo", b"ens6", b"on",
    b"N/A",
)  # fmt: skip
VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**32, 2**63, 2**64, 2**70, -(2**63), 1.5, 1e308, "", "x", "0", "-1", "\u0663",
    "10.0.2.2", "::1", "fe80::1%ens6", "300.1.1.1", "a" * 3000, "\0", "\ud800", "<b>", [], {}, [[]], [{}], {"": {}},
    [None],
    ["a", 1], "nbd0", "ens6", "lo", "virtio_net",
)  # fmt: skip


@cache
def recorded(path: Path) -> Record:
    return open_record(path)


def garbled(draw: random.Random, data: bytes) -> bytes:
    """Bytes changed in one of the ways that a careless or a malicious hand would."""
    at, to = sorted((draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)))
    to = min(to, at + draw.choice((1, 2, 8, 64, 100_000)))
    lines = data.splitlines(keepends=True)
    ways: list[Callable[[], bytes]] = [
        lambda: data[:at],
        lambda: data[:at] + data[to:],
        lambda: data[:at] + draw.choice(WORDS) + data[to:],
        lambda: data[:at] + bytes(draw.randrange(256) for _ in range(min(to - at, 64))) + data[to:],
        lambda: data[:at] + data[at:to] * draw.choice((2, 3, 50)) + data[to:],
        lambda: b"".join(draw.sample(lines, len(lines))),
        lambda: b"".join(line for line in lines if draw.random() < 0.7),
        lambda: b"".join(lines + lines),
        lambda: swapped_word(draw, data),
        lambda: swapped_word(draw, data),
        lambda: swapped_word(draw, data),
        lambda: draw.choice(WORDS) + b"\n",
    ]
    return draw.choice(ways)()


def swapped_word(draw: random.Random, data: bytes) -> bytes:
    """One word of the text replaced, all else whole: what gets furthest into a parser."""
    words = data.split(b" ")
    words[draw.randrange(len(words))] = draw.choice((*WORDS, draw.choice(words)))
    return b" ".join(words)


def garbled_json(draw: random.Random, data: bytes) -> bytes:
    """JSON that is still JSON, with one value of another type, gone, doubled or far out of range."""
    try:
        top = json.loads(data)
    except ValueError:
        return garbled(draw, data)
    node, steps = top, draw.randrange(1, 7)
    for _ in range(steps):
        if not isinstance(node, dict | list) or not node:
            break
        key = draw.choice(sorted(node) if isinstance(node, dict) else range(len(node)))
        below = node[key]
        if not isinstance(below, dict | list) or not below or draw.random() < 0.15:
            change = draw.randrange(4)
            if change == 0:
                del node[key]
            elif change == 1 and isinstance(node, list):
                node.append(below)
            else:
                node[key] = draw.choice(VALUES)
            break
        node = below
    else:
        top = draw.choice(VALUES) if draw.random() < 0.1 else top
    return json.dumps(top).encode()


def mutated(draw: random.Random, record: Record) -> Record:
    """A record of which some members are other than the kernel writes them."""
    members = dict(record.members)
    paths = sorted(path for path, one in members.items() if one.status is Status.FOUND)
    said = [path for path in paths if path.endswith(".json")]
    for _ in range(draw.choice((1, 1, 2, 4, 16, 64))):
        path = draw.choice(said if said and draw.random() < 0.3 else paths)
        if path in members:
            members.update(mutated_member(draw, members, members[path], paths))
            if draw.random() < 0.02:
                del members[path]
    return replace(record, members=members)


def mutated_member(
    draw: random.Random, members: dict[str, Member], one: Member, paths: list[str]
) -> dict[str, Member]:
    other = members.get(draw.choice(paths), one)
    kind = draw.random()
    if kind < 0.04:
        status = draw.choice(list(Status))
        return {one.path: replace(one, status=status, data=b"", target="")}
    if kind < 0.08:  # what belongs elsewhere, a link where a file was, a file where a link was
        return {one.path: replace(one, data=other.data, target=other.target)}
    if kind < 0.11:  # one more of its kind
        folder, _, name = one.path.rpartition("/")
        return {path: replace(one, path=path) for path in [f"{folder}/{name}{draw.randrange(9)}"]}
    if one.target:
        parts = one.target.split("/")
        word = draw.choice(("..", "nbd0", "sda", "x", other.path.rpartition("/")[2], other.target or "y"))
        parts[draw.randrange(len(parts))] = word
        return {one.path: replace(one, target="/".join(parts))}
    data = one.data
    for _ in range(draw.choice((1, 1, 1, 3))):
        data = (
            garbled_json(draw, data)
            if one.path.endswith(".json") and draw.random() < 0.8
            else garbled(draw, data)
        )
    return {one.path: replace(one, data=data)}


def through_the_archive(record: Record) -> Record | None:
    """The record as it comes back from a file; None where the reader refuses it (its path, say), as it may."""
    try:
        return from_files("fuzzed", record_files(record))
    except TidegateError:
        return None


def everything_printed(record: Record, old: Record, draw: random.Random) -> None:
    """All that any command makes of a record."""
    result = check_record(record)
    to_json(result)
    for whole in (False, True):
        check_text(result, all=whole, width=draw.choice((20, 80, 200)), colour=whole)
    check_html(result)
    host = read_host(record)
    check_metrics([result], [host.counters])
    hosts_table([result, result])
    found = changes(check_record(old), result)
    changes_text(found)
    to_json(found)
    for form in FORMATS:
        plan = solve(host, format=form, max_share_percent=draw.choice((0.01, 5.0, 50.0)))
        to_json(plan)
        plan_text(plan, all=True)
        if form in {"sysctl", "script", "tuned"}:
            plan_file(plan)


def one_record(number: int) -> None:
    draw = random.Random(number)
    old = recorded(RECORDS[number % len(RECORDS)])
    record = through_the_archive(mutated(draw, old))
    if record is None:
        return
    everything_printed(record, old, draw)
    if draw.random() < 0.2:
        check_record(anonymise(record, key=b"k" * 32))


def test_no_garbage_in_a_record_ends_in_a_traceback() -> None:
    print(f"numbers {FIRST} to {FIRST + COUNT - 1}")
    failed = []
    for number in range(FIRST, FIRST + COUNT):
        try:
            one_record(number)
        except Exception as error:
            if COUNT == 1:
                raise
            failed.append(
                f"TIDEGATE_FUZZ=1 TIDEGATE_FUZZ_FROM={number}: {type(error).__name__}: {error}"[:200]
            )
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("sys/block/nbd0/queue/nr_requests", b"-1\n"),
        ("proc/sys/net/ipv4/tcp_mem", b"1 2 -16\n"),
        ("proc/sys/net/ipv4/ipfrag_high_thresh", b"-21\n"),
        ("proc/sys/net/ipv4/udp_mem", "1 2 \u00b2\n".encode()),
        ("proc/sys/vm/min_free_kbytes", b"--1\n"),
        ("proc/sys/vm/min_free_kbytes", b"9" * 400 + b"\n"),
        ("sys/block/nbd0/size", b"9" * 5000 + b"\n"),
        ("proc/self/mountinfo", b"9" * 5000 + b"\n"),
        ("netlink/ethtool.json", b'{"devices": [{"name": "ens6", "rx": -256}]}\n'),
    ],
)
def test_what_it_found(path: str, data: bytes) -> None:
    """Amounts that no kernel prints went into the sum; they are unknown, and the host no safer for them."""
    record = recorded(HERE.parent / "hosts/virtio-nbd-swap.tar.xz")
    member = replace(record.members[path], data=data)
    garbage = replace(record, members={**record.members, path: member})
    everything_printed(garbage, record, random.Random(0))
    assert check_record(garbage).verdict is not Verdict.SAFE
