"""Where a campaign keeps what it found: DIR/results.jsonl, a line for each trial, and DIR/evidence/.

A line is written by one call and is on the disk before the next trial is counted, so whatever kills the campaign
leaves whole lines and at most one torn one at the end, which the next campaign cuts off.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tidegate.errors import BadInput, Lacking
from tidegate.rig.tally import Place, place_of
from tidegate.trial import Job, TrialResult

RESULTS = "results.jsonl"
EVIDENCE = "evidence"

Which = tuple[Place, int]  # place and seed: which trial it is, however its case was named


def which(trial: Job | TrialResult) -> Which:
    """The same for equal trials only; a case asked for by name and by path is one case."""
    return place_of(trial), trial.seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The results of a directory, open for appending by this process alone."""

    directory: Path
    handle: int
    results: dict[Which, TrialResult] = field(default_factory=dict)  # of two lines for a trial, the later one


@contextmanager
def open_store(directory: Path) -> Iterator[Store]:
    """The store, made if there is none, its torn last line cut off.

    Lacking: it cannot be written, or another campaign is at work in it. BadInput: a line that is no result.
    """
    path = directory / RESULTS
    try:
        (directory / EVIDENCE).mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise Lacking(f"{path}: cannot be written ({error.strerror})") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Lacking(
                f"{directory}: another campaign is at work in it; wait for its end, or take another --dir"
            ) from error
        except OSError as error:
            raise Lacking(
                f"{path}: cannot be locked ({error.strerror}); take a --dir on a local disk"
            ) from error
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(handle, whole)
        yield Store(directory=directory, handle=handle, results=_decoded(data[:whole], path))
    finally:
        os.close(handle)


def _decoded(data: bytes, path: Path) -> dict[Which, TrialResult]:
    results: dict[Which, TrialResult] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            one = msgspec.json.decode(line, type=TrialResult)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadInput(str(path), f"line {number}", str(error), "a result of a trial") from error
        results.pop(which(one), None)  # to the end
        results[which(one)] = one
    return results


def append(store: Store, result: TrialResult) -> None:
    """Keeps a result for good. Lacking where the disk is full: then the file is as it was before."""
    line = msgspec.json.encode(result) + b"\n"
    before = os.fstat(store.handle).st_size
    try:
        written = 0
        while written < len(line):
            written += os.write(store.handle, line[written:])
        os.fsync(store.handle)
    except OSError as error:
        with suppress(OSError):
            os.ftruncate(store.handle, before)
        path = store.directory / RESULTS
        raise Lacking(
            f"{path}: cannot be written ({error.strerror}); what ended before is kept, and the same command goes on"
        ) from error
    store.results.pop(which(result), None)
    store.results[which(result)] = result
