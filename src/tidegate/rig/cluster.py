"""Trials on a Dask cluster. Each is one task; what comes back is kept by the campaign, which is the only writer.

A worker may be on another machine: the evidence comes back with the result, as an archive, and no disk is shared.
Scheduler and workers need the same tidegate, the workers also what a trial needs. Workers with one thread each
(`dask worker --nthreads 1`) are best, as many as memory allows: Dask knows nothing of a guest's memory.
"""

from __future__ import annotations

import io
import logging
import queue
import tarfile
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from tidegate import __version__
from tidegate.errors import Lacking, TidegateError
from tidegate.rig.campaign_file import Planned
from tidegate.rig.pool import RUNNING, Ended, Runner, answered
from tidegate.rig.results_file import EVIDENCE
from tidegate.trial import Job, TrialResult

CONNECT_S = 10.0
# Read on the other machines first, through a function of the standard library: a worker that meets a name of ours
# which it cannot import drops its connection, and comes and goes for minutes (distributed 2026.8).
PROBE = "tidegate:__version__"
TOPIC = "tidegate-trials"  # of the events that workers send when they begin a trial

Answer = bytes | TidegateError | str  # the result in JSON, or trouble


class ClusterPool:
    """Trials as tasks of a Dask scheduler."""

    def __init__(self, directory: Path, runner: Runner, address: str) -> None:
        self._evidence = directory / EVIDENCE
        self._runner = runner
        self._client = _connected(address)
        _check_software(self._client)
        self._tasks: dict[str, tuple[Planned, Any]] = {}  # key -> the future too, which keeps the task wanted
        self._done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._begun: Counter[str] = Counter()
        self._client.subscribe_topic(TOPIC, self._heard)
        if not self._client.nthreads():
            logging.getLogger("tidegate").warning("%s has no workers yet; it waits for them", address)

    def _heard(self, event: tuple[float, str]) -> None:
        """Where a worker dies, Dask gives its task to another one and does not say so: beginnings are counted."""
        self._begun[event[1]] += 1

    def room(self, planned: Planned) -> bool:  # noqa: ARG002 - the cluster's memory is its own business
        """As `pool.Pool` says: a few more than there are threads, so that none waits for us."""
        with _scheduler_there():
            threads: int = sum(self._client.nthreads().values())
        return len(self._tasks) < threads + 2

    def start(self, planned: Planned) -> None:
        """As `pool.Pool` says."""
        key = f"trial-{uuid.uuid4().hex}"
        with _scheduler_there():
            future = self._client.submit(_task, key, self._runner, planned.job, key=key, pure=False)
        self._tasks[key] = (planned, future)
        future.add_done_callback(lambda _: self._done.put(key))

    def wait(self) -> list[Ended]:
        """As `pool.Pool` says; no longer than half a second. Lacking where the scheduler is gone."""
        try:
            keys = [self._done.get(timeout=0.5)]
        except queue.Empty:
            if self._client.status != "running":
                raise _gone() from None
            return []
        with suppress(queue.Empty):
            while True:
                keys.append(self._done.get_nowait())
        return [self._ended(key) for key in keys if key in self._tasks]

    def _ended(self, key: str) -> Ended:
        planned, future = self._tasks.pop(key)
        tries = max(self._begun.pop(key, 1), 1)
        if future.status == "error":
            return Ended(planned=planned, answer=_trouble(future.exception()), tries=max(tries, 2))
        if future.status != "finished":  # cancelled, or lost: nobody tried it
            raise _gone()
        with _scheduler_there():  # the result may still be with its worker
            answer, archive = future.result()
        folder = self._evidence / f"{RUNNING}{key}"
        folder.mkdir()
        if archive:
            unpack(archive, folder)
        got = msgspec.json.decode(answer, type=TrialResult) if isinstance(answer, bytes) else answer
        return Ended(planned=planned, answer=got, tries=tries, folder=folder)

    def running(self) -> int:
        """As `pool.Pool` says."""
        return len(self._tasks)

    def end(self, *, now: bool) -> list[Ended]:
        """As `pool.Pool` says: what has not begun never does; a trial that has, ends by itself, and is forgotten."""
        ended = []
        if not now and self._client.status == "running":
            with suppress(queue.Empty):
                while True:
                    key = self._done.get_nowait()
                    if key in self._tasks and self._tasks[key][1].status == "finished":
                        ended.append(self._ended(key))
        with suppress(Exception):  # a scheduler that is gone has forgotten them anyway
            self._client.cancel([future for _, future in self._tasks.values()], force=True)
        self._tasks.clear()
        return ended

    def close(self) -> None:
        """Leaves the cluster; it goes on without us."""
        with suppress(Exception):
            self._client.close(timeout=CONNECT_S)


def _connected(address: str) -> Any:
    try:
        import distributed
    except ImportError as error:
        raise Lacking(
            "--scheduler needs Dask (apt install python3-distributed, or pip install 'tidegate[cluster]')"
        ) from error
    for name in (
        "distributed",
        "distributed.client",
    ):  # what it prints of a lost connection, we say in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        said = str(error).partition("\n")[0] or "no answer"
        raise Lacking(f"--scheduler {address}: no scheduler to be reached ({said})") from error


def _check_software(client: Any) -> None:
    """Lacking where a machine of the cluster has another tidegate, or none."""
    from pkgutil import resolve_name

    try:
        found = client.run(resolve_name, PROBE, on_error="return") | {
            "the scheduler": client.run_on_scheduler(resolve_name, PROBE)
        }
    except Exception as error:  # noqa: BLE001 - run_on_scheduler raises here what was raised there
        found = {"the scheduler": error}
    for where, version in found.items():
        if version != __version__:
            said = "none" if isinstance(version, Exception) else str(version)
            client.close(timeout=CONNECT_S)
            raise Lacking(
                f"{where} of the Dask cluster: found tidegate {said}, expected {__version__}, as here"
            )


def _trouble(error: BaseException | None) -> TidegateError | str:
    """Of a task that Dask itself gave up: whatever goes wrong in a trial is an answer of the task."""
    said = f"{type(error).__name__}: {str(error).partition('.')[0]}"
    if type(error).__name__ == "KilledWorker":  # as many workers died of it as Dask allows
        return f"the cluster lost it: {said}"
    return Lacking(
        f"the Dask cluster cannot make a trial ({said}); its scheduler and workers need the same tidegate"
    )


@contextmanager
def _scheduler_there() -> Iterator[None]:
    from concurrent.futures import CancelledError

    try:
        yield
    except (OSError, CancelledError) as error:  # CommClosedError, TimeoutError, FutureCancelledError are such
        raise _gone() from error


def _gone() -> Lacking:
    return Lacking(
        "the Dask scheduler is gone; what ended is kept, and the same command goes on when it is back"
    )


def _task(key: str, runner: Runner, job: Job) -> tuple[Answer, bytes]:
    """On a worker: makes the trial; the answer, and the evidence as an archive."""
    import distributed

    with suppress(ValueError):  # no worker: called by hand
        distributed.get_worker().log_event(TOPIC, key)
    with tempfile.TemporaryDirectory(prefix="tidegate-trial-") as folder:
        answer = answered(runner, job, Path(folder))
        archive = pack(Path(folder))
    return (msgspec.json.encode(answer) if isinstance(answer, TrialResult) else answer), archive


def pack(folder: Path) -> bytes:
    """The folder as a compressed archive; nothing where it is empty."""
    names = sorted(folder.iterdir())
    if not names:
        return b""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name in names:
            archive.add(name, arcname=name.name)
    return buffer.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """The archive into an empty folder; nothing of it lands outside (PEP 706). Lacking where it cannot be written."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
            opened.extractall(folder, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise Lacking(f"{folder}: evidence cannot be unpacked ({error})") from error
