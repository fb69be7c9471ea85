"""Campaigns on a real Dask cluster of this machine, one worker of which is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.rig import campaign_runners as runners
from tests.rig.test_campaign import TREE, kept, lines, plan, until

from tidegate.errors import Lacking
from tidegate.rig import cluster as module
from tidegate.rig.campaign import Outcome, run_campaign
from tidegate.rig.campaign_file import Planned
from tidegate.rig.cluster import ClusterPool, pack, unpack
from tidegate.rig.pool import Runner
from tidegate.rig.results_file import EVIDENCE, open_store
from tidegate.trial import TrialResult

distributed = pytest.importorskip("distributed", reason="Dask is not here: pip install 'tidegate[cluster]'")
# Dask's own sockets and loops are closed by the collector when a worker was killed.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("TIDEGATE_TEST_RUNS", str(folder))
    return folder


@pytest.fixture
def cluster(runs: Path) -> Iterator[Any]:
    """Three workers, each a process; the environment is theirs too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.LocalCluster(
            n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as made:
            yield made


def campaign(
    directory: Path,
    runner: Runner,
    planned: list[Planned],
    cluster: Any,
    tell: Callable[[TrialResult], None] = lambda _: None,
) -> Outcome:
    with open_store(directory) as store:
        pool = ClusterPool(directory, runner, cluster.scheduler_address)
        try:
            return run_campaign(planned, store, pool, tell=tell)
        finally:
            pool.close()


def test_a_worker_is_killed_and_the_result_is_complete(tmp_path: Path, runs: Path, cluster: Any) -> None:
    planned = plan(12, "stock plan")
    out = tmp_path / "out"
    killed: list[int] = []

    def kill_one(_: TrialResult) -> None:
        """After the third result: the worker that began the newest trial, in the middle of it."""
        if killed or lines(out) < 3:
            return
        pid = int((runs / "starts").read_text().splitlines()[-1].split()[0])
        time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    outcome = campaign(out, runners.steady, planned, cluster, kill_one)
    assert len(killed) == 1
    assert [one.job for one in outcome.results] == [one.job for one in planned]
    assert {one.verdict for one in outcome.results} == {"SURVIVED"}
    assert lines(out) == len(kept(out)) == len(planned), "no duplicates"
    for one in outcome.results:
        assert one.evidence is not None
        assert (out / one.evidence / "deep" / "console.txt").read_text() == one.job.key()
    assert len(list((out / EVIDENCE).iterdir())) == len(planned)
    starts = Counter(runners.starts(runs))
    repeated = {key for key, count in starts.items() if count > 1}
    assert len(repeated) == 1, "the one it worked on was begun once more"
    assert {one.job.key(): one.tries for one in outcome.results} == dict(starts), "and that is counted"


def test_it_goes_on_where_another_one_ended(tmp_path: Path, runs: Path, cluster: Any) -> None:
    out = tmp_path / "out"
    campaign(out, runners.quick, plan(2), cluster)
    campaign(out, runners.quick, plan(4), cluster)
    assert Counter(runners.starts(runs)) == Counter(one.job.key() for one in plan(4))


def test_trouble_comes_back_as_what_it_is(tmp_path: Path, runs: Path, cluster: Any) -> None:
    with pytest.raises(Lacking, match="no qemu-system-x86_64"):
        campaign(tmp_path / "a", runners.lacks, plan(3), cluster)
    lost = campaign(tmp_path / "b", runners.breaks, plan(1), cluster).results[0]
    assert (lost.verdict, lost.tries) == ("LOST", 2)
    assert lost.reason == "an error of the rig: ZeroDivisionError: a slip of ours"
    skipped = campaign(tmp_path / "c", runners.has_no_such_nic, plan(2), cluster)
    assert len(skipped.skipped) == 2


def test_a_scheduler_that_dies_ends_it_with_nothing_lost(tmp_path: Path, runs: Path) -> None:
    """Scheduler and worker are programs of their own; the first is killed while the second is at work."""
    words = [sys.executable, "-m"]
    environment = os.environ | {"PYTHONPATH": str(TREE)}
    told = tmp_path / "scheduler.json"
    scheduler = subprocess.Popen(
        [*words, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
         "--scheduler-file", str(told)],
        stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment,
    )  # fmt: skip
    worker = subprocess.Popen(
        [*words, "distributed.cli.dask_worker", "--scheduler-file", str(told), "--nthreads", "1", "--no-dashboard",
         "--no-nanny", "--local-directory", str(tmp_path)],
        stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment,
    )  # fmt: skip
    try:
        until(lambda: told.exists() and told.read_text().endswith("}"), "no scheduler")
        with open_store(tmp_path / "out") as store:
            pool = ClusterPool(tmp_path / "out", runners.steady, json.loads(told.read_text())["address"])
            try:
                with pytest.raises(Lacking, match="scheduler is gone; what ended is kept"):
                    run_campaign(plan(9), store, pool, tell=lambda _: scheduler.kill())
            finally:
                pool.close()
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    results = kept(tmp_path / "out")
    assert 1 <= len(results) < 9
    assert [one.reason for one in results if one.verdict != "SURVIVED"] == []


@pytest.mark.parametrize(
    ("probe", "found"), [("only_here:version", "none"), ("tidegate:no_such_name", "none"), ("os:sep", "/")]
)
def test_a_cluster_with_other_software_is_told_and_nothing_is_made(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, probe: str, found: str
) -> None:
    monkeypatch.setattr(module, "PROBE", probe)
    with pytest.raises(Lacking, match=f"of the Dask cluster: found tidegate {found}, expected 0"):
        ClusterPool(tmp_path, runners.bare, cluster.scheduler_address)


def test_what_dask_gives_up_is_lost_only_if_workers_died_of_it() -> None:
    class KilledWorker(Exception):
        pass

    assert module._trouble(KilledWorker("task x. More")) == "the cluster lost it: KilledWorker: task x"
    assert isinstance(module._trouble(RuntimeError("Error during deserialization. More")), Lacking)


def test_no_scheduler_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 0.5)
    for address in ("tcp://127.0.0.1:9", "nonsense", "tcp://127.0.0.1:none"):
        with pytest.raises(Lacking) as caught:
            ClusterPool(tmp_path, runners.bare, address)
        assert str(caught.value).startswith(f"--scheduler {address}: no scheduler to be reached")
        assert "\n" not in str(caught.value)


def test_evidence_is_packed_and_nothing_lands_outside(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    target.mkdir()
    assert pack(source / "deep") == b""
    (source / "deep" / "a").write_bytes(b"\0\xff")
    unpack(pack(source), target)
    assert (target / "deep" / "a").read_bytes() == b"\0\xff"
    evil = tmp_path / "evil.tar.gz"
    with tarfile.open(evil, "w:gz") as archive:
        archive.add(source / "deep" / "a", arcname="../outside")
    with pytest.raises(Lacking, match="cannot be unpacked"):
        unpack(evil.read_bytes(), target)
    assert not (tmp_path / "outside").exists()
