"""What the judge said before, kept beside the cases: `results/simulate.jsonl`, a line of JSON for each arm.

Each line has a key: a hash of all that decides the word, the case as it is for that arm and the source of the
mechanism. A line whose key differs is stale. Prose (claim, source, why) and expectations are not in the key: a
corrected sentence asks for no new run.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import msgspec

from tidegate.case import Arm, Case, arm_case
from tidegate.errors import BadInput, Lacking
from tidegate.simulation import Simulated

# The source that decides what a run does, below the package: modules, and rooms with all that is in them. What
# these import besides (a test reads it) holds no rule of a run.
DECIDES = ("sim", "designs", "need.py", "design.py", "case.py", "strict_toml.py", "frames.py", "units.py")
_PROSE = {"claim", "source", "finding", "arm", "name", "trial"}  # and what another judge reads


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was said of one arm: the word, k of n seeds, and of what exactly (`key`)."""

    case: str
    arm: str
    design: str
    word: str
    k: int
    n: int
    key: str


Results = Mapping[tuple[str, str], Stored]  # by case and arm


def results_file(directory: Path, judge: str = "simulate") -> Path:
    """Where the results of the cases in a directory are kept."""
    return directory / "results" / f"{judge}.jsonl"


def arm_key(case: Case, arm: Arm) -> str:
    """The hash of all that decides the word of an arm."""
    table = msgspec.to_builtins(arm_case(case, arm))
    decides = {name: value for name, value in table.items() if name not in _PROSE}
    decides |= {"design": arm.design, "without": sorted(arm.without)}
    digest = hashlib.sha256(code_key().encode())
    digest.update(msgspec.json.encode(decides, order="sorted"))
    return digest.hexdigest()


@cache
def code_key() -> str:
    """The hash of the source that decides what a run does."""
    return source_key(Path(__file__).resolve().parent.parent)


def source_key(package: Path) -> str:
    """The same for the source below another place."""
    digest = hashlib.sha256()
    for path in deciding_sources(package):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def deciding_sources(package: Path) -> list[Path]:
    """The files of DECIDES that are there, sorted."""
    found: list[Path] = []
    for name in DECIDES:
        place = package / name
        found += place.rglob("*.py") if place.is_dir() else [place] if place.is_file() else []
    return sorted(found)


def stored_arm(case: Case, arm: Arm, result: Simulated) -> Stored:
    """What is kept of a result."""
    assert (result.case, result.arm) == (case.name, arm.name), (result.case, result.arm)
    return Stored(
        case=case.name,
        arm=arm.name,
        design=result.design,
        word=result.word.value,
        k=result.k,
        n=result.n,
        key=arm_key(case, arm),
    )


def read_results(directory: Path) -> dict[tuple[str, str], Stored]:
    """What is stored for the cases in a directory; nothing where nothing is. BadInput names the line."""
    path = results_file(directory)
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Lacking(f"{path}: cannot be read ({error.strerror})") from error
    results = {}
    for number, line in enumerate(lines, 1):
        try:
            one = msgspec.json.decode(line, type=Stored)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            expected = "a stored result (remove the file, and tidegate cases --run writes it anew)"
            raise BadInput(str(path), f"line {number}", str(error), expected) from error
        results[one.case, one.arm] = one
    return results


def store_results(directory: Path, case: str, found: Iterable[Stored]) -> None:
    """Puts what was found for a case in the place of what was stored for it. Lacking where that cannot be written."""
    with alone(directory):
        results = {place: one for place, one in read_results(directory).items() if place[0] != case}
        results |= {(one.case, one.arm): one for one in found}
        _write(directory, results)


def forget_others(directory: Path, cases: Collection[str]) -> None:
    """Drops what is stored for cases that are no more."""
    with alone(directory):
        results = read_results(directory)
        kept = {place: one for place, one in results.items() if one.case in cases}
        if len(kept) < len(results):
            _write(directory, kept)


def check_writable(directory: Path) -> None:
    """Lacking where results cannot be stored, before an hour is spent on them."""
    path = results_file(directory)
    nearest = next(place for place in (path.parent, directory) if place.is_dir() or place == directory)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise Lacking(
            f"{path}: cannot be written (no right to write in {nearest}); run it on a copy of the cases"
        )


def _write(directory: Path, results: Results) -> None:
    from tidegate.host.archive import write_atomically

    path = results_file(directory)
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise Lacking(f"{path.parent}: cannot be made ({error.strerror})") from error
    lines = [msgspec.json.encode(results[place], order="sorted") + b"\n" for place in sorted(results)]
    write_atomically(path, b"".join(lines))


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """No other tidegate reads and writes the results meanwhile: a lock on the directory, which leaves no file."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise Lacking(f"{directory}: cannot be opened ({error.strerror})") from error
    try:
        with suppress(OSError):  # a file system without locks; then two at once may lose what one found
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
