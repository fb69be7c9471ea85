"""The list of what is read: every fact that readers look for is on it, and each line says what it is for."""

from __future__ import annotations

import re

import pytest
from tests.host.made_variants import VARIANTS

from tidegate.host import wanted
from tidegate.host.read import read_host
from tidegate.host.record import Record, Status, covers, status
from tidegate.result import Topic

ALL = wanted.paths(netlink=False)
# Taken because of what something else said: a daemon's cgroup, a name that swap or a mount uses.
BY_NAME = re.compile(r"netlink/\w+\.json|sys/fs/cgroup/.*|dev/.*")
# Stand in where another kind of record holds them instead; and a table that no reader asks for.
IN_PLACE_OF = {"proc/1/mountinfo", "proc/cpuinfo", "proc/mounts", "proc/self/mounts", "proc/net/unix"}


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_what_made_hosts_hold_is_looked_for_on_real_ones(name: str) -> None:
    members = VARIANTS[name]().record().members
    unknown = [path for path in members if not covers(ALL, path) and not BY_NAME.fullmatch(path)]
    assert set(unknown) <= IN_PLACE_OF


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_what_readers_ask_for_is_looked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = VARIANTS[name]().record()
    asked: set[str] = set()

    def spy(one: Record, path: str) -> Status:
        asked.add(path)
        return status(one, path)

    monkeypatch.setattr("tidegate.host.reading.status", spy)
    read_host(record)
    files = {path for path in asked if not _is_folder(path) and not BY_NAME.fullmatch(path)}
    assert {path for path in files if not covers(ALL, path)} <= IN_PLACE_OF


def _is_folder(path: str) -> bool:
    """Asked for only to know whether there is something in it."""
    return any(covers(ALL, f"{path}/{name}") for name in ("x", *_NAMES)) or path.count("/") < 2


_NAMES = {pattern.rpartition("/")[2] for pattern in ALL}


def test_a_path_that_nobody_asks_a_real_host_for_would_be_seen() -> None:
    assert not covers(ALL, "sys/block/sda/a_new_attribute")
    assert not covers(ALL, "proc/a_new_file")


def test_every_line_says_what_it_is_for() -> None:
    for one in (*wanted.ALL, *wanted.WITHOUT_NETLINK):
        assert one.why
        assert one.names
        assert isinstance(one.topic, Topic)
        assert not one.folder.startswith("/")
    assert len(set(ALL)) == len(ALL)


def test_no_path_is_listed_twice() -> None:
    every = [f"{one.folder}/{name}" for one in wanted.ALL for name in one.names]
    assert len(every) == len(set(every))
