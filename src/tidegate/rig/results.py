"""Results of trials as a report reads them: `results.jsonl`, one TrialResult a line, and the evidence beside it.

`results_file` writes them. A report also takes a file that somebody put together or cut by hand, reads the bundles,
and trusts neither.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from tidegate.errors import BadInput, Lacking
from tidegate.report.trials_words import EvidenceFile
from tidegate.rig.results_file import EVIDENCE, RESULTS, Which, which
from tidegate.trial import TRIAL_SCHEMA, TrialResult

# A page holds the texts; captures and memory dumps stay where they are.
_TEXTS = {".diff", ".json", ".jsonl", ".log", ".txt"}
_FILE_MAX_BYTES = 64 * 1024
_PAGE_MAX_BYTES = 16 * 1024 * 1024  # of all bundles together


def results_path(place: Path) -> Path:
    """The file with the results: `place` itself where it is a file, else the one in that directory."""
    return place / RESULTS if place.is_dir() else place


def read_results(place: Path) -> tuple[TrialResult, ...]:
    """The trials of a directory or of a .jsonl file, in the order in which they were written.

    BadInput names the line that is no result; Lacking says what cannot be read. A last line that was cut is left
    out with a message. Of two lines for one trial the later one counts, as for the campaign that goes on with them.
    """
    path = results_path(place)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        expected = f"a directory with {RESULTS} in it, or such a file"
        raise BadInput(str(place), "", "none" if path != place else "nothing", expected) from None
    except OSError as error:
        raise Lacking(f"{path}: cannot be read ({error.strerror})") from error
    lines = data.split(b"\n")
    results: dict[Which, TrialResult] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            one = _decoded(line)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            if number == len(lines):
                _say(f"{path}: line {number} was cut while it was written, and is left out")
                continue
            raise BadInput(
                str(path), f"line {number}", str(error), f"a trial's result ({TRIAL_SCHEMA})"
            ) from error
        results.pop(which(one), None)  # to the end
        results[which(one)] = one
    return tuple(results.values())


def _decoded(line: bytes) -> TrialResult:
    result = msgspec.json.decode(line, type=TrialResult)
    if result.schema != TRIAL_SCHEMA:
        raise ValueError(f"schema {result.schema!r}")
    return result


def stale(results: Iterable[TrialResult], code: str) -> tuple[TrialResult, ...]:
    """Those that another rig than the one with this hash made: what they say may not hold for it."""
    return tuple(one for one in results if one.code != code)


def read_evidence(place: Path, results: Sequence[TrialResult]) -> dict[str, tuple[EvidenceFile, ...]]:
    """The files of each trial's bundle, by TrialResult.evidence; the texts, of long ones the end.

    A bundle that is not there has no entry. Nothing outside the directory of the results is read, whatever a result
    names: the results may come from somebody else.
    """
    top = results_path(place).parent
    room = _PAGE_MAX_BYTES
    found: dict[str, tuple[EvidenceFile, ...]] = {}
    for one in results:
        folder = None if one.evidence is None else _folder(top, one.evidence)
        if folder is None or one.evidence is None or one.evidence in found:
            continue
        files = tuple(_files(folder, room))
        room -= sum(min(file.size_bytes, _FILE_MAX_BYTES) for file in files if file.text is not None)
        found[one.evidence] = files
    return found


def _folder(top: Path, name: str) -> Path | None:
    """The bundle's folder below the directory of the results; None where there is none."""
    inside = top.resolve()
    for place in (top / name, top / EVIDENCE / name):
        try:
            resolved = place.resolve()
            if resolved.is_dir() and inside in resolved.parents and resolved != inside / EVIDENCE:
                return resolved
        except (OSError, ValueError):  # too long for a name, or with a NUL in it
            continue
    return None


def _files(folder: Path, room: int) -> Iterator[EvidenceFile]:
    """Sorted by name; a link is not followed."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            size = path.stat().st_size
            text = _text(path, size) if min(size, _FILE_MAX_BYTES) <= room else None
        except OSError as error:
            _say(f"{path}: cannot be read ({error.strerror})")
            continue
        room -= 0 if text is None else min(size, _FILE_MAX_BYTES)
        yield EvidenceFile(name=path.relative_to(folder).as_posix(), size_bytes=size, text=text)


def _text(path: Path, size: int) -> str | None:
    """A text, of a long one its end, where a console tells how it came; None for what is no text."""
    if size > _FILE_MAX_BYTES and path.suffix not in _TEXTS:
        return None
    with path.open("rb") as file:
        file.seek(max(size - _FILE_MAX_BYTES, 0))
        data = file.read(_FILE_MAX_BYTES)
    if b"\0" in data:
        return None
    # A serial line may bring a broken character; that makes it no less a text.
    left_out = (
        f"[{size - _FILE_MAX_BYTES:,} bytes before this are left out]\n" if size > _FILE_MAX_BYTES else ""
    )
    return left_out + data.decode(errors="replace")


def _say(message: str) -> None:
    logging.getLogger("tidegate").warning("%s", message)
