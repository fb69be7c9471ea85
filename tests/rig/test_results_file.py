"""The file of results: whole lines are kept, a torn one is cut off, one campaign at a time."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import msgspec
import pytest
from tests.rig.campaign_runners import made

from tidegate.errors import BadInput, Lacking
from tidegate.rig.results_file import RESULTS, append, open_store, which
from tidegate.trial import Job, TrialResult, Verdict


def job(seed: int, case: str = "deadlock") -> Job:
    return Job(case=case, arm="stock", kernel="k", nic="e1000", transport="nbd", seed=seed)


def kept(directory: Path) -> list[TrialResult]:
    with open_store(directory) as store:
        return list(store.results.values())


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    with open_store(tmp_path / "a" / "b") as store:
        for seed in (1, 2):
            append(store, made(job(seed), margin=seed))
    assert kept(tmp_path / "a" / "b") == [made(job(1), margin=1), made(job(2), margin=2)]


def test_a_file_cut_anywhere_keeps_the_whole_lines(tmp_path: Path) -> None:
    lines = [msgspec.json.encode(made(job(seed))) + b"\n" for seed in (1, 2)]
    data = b"".join(lines)
    for length in range(len(data) + 1):
        (tmp_path / RESULTS).write_bytes(data[:length])
        whole = data[:length].count(b"\n")
        assert len(kept(tmp_path)) == whole
        assert (tmp_path / RESULTS).read_bytes() == b"".join(lines[:whole])


def test_of_two_lines_for_a_trial_the_later_one_counts(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        append(store, made(job(1), Verdict.LOST))
        append(store, made(job(2)))
        append(store, made(job(1)))
    assert [(one.seed, one.verdict) for one in kept(tmp_path)] == [(2, "SURVIVED"), (1, "SURVIVED")]


def test_a_case_by_name_and_by_path_is_one_trial() -> None:
    assert which(job(1)) == which(job(1, "/somewhere/deadlock.toml")) == which(made(job(1)))
    assert which(job(1)) != which(job(2))


def test_a_line_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_bytes(msgspec.json.encode(made(job(1))) + b"\n{}\n")
    with pytest.raises(BadInput, match=r"results\.jsonl: line 2: found .*expected a result of a trial"):
        kept(tmp_path)


def test_two_campaigns_in_one_directory_refuse(tmp_path: Path) -> None:
    with open_store(tmp_path), pytest.raises(Lacking, match="another campaign is at work in it"):
        kept(tmp_path)
    assert kept(tmp_path) == []


def test_no_directory_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Lacking, match="cannot be written"):
        kept(tmp_path / "file")


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """A bound on the file's size stands in for the disk: the write stops in the middle of the line."""
    with open_store(tmp_path) as store:
        append(store, made(job(1)))
        size = (tmp_path / RESULTS).stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, before[1]))
        try:
            with pytest.raises(Lacking, match="what ended before is kept"):
                append(store, made(job(2)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert (tmp_path / RESULTS).stat().st_size == size
        append(store, made(job(3)))
    assert [one.seed for one in kept(tmp_path)] == [1, 3]
