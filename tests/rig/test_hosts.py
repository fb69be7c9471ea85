"""Making a recorded host, and the runner's words when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.check import check_record
from tidegate.errors import Lacking, Unsupported
from tidegate.host.bundled import bundled_record
from tidegate.host.opening import open_record
from tidegate.rig import guest, hosts


@pytest.mark.vm
def test_a_host_made_anew_gets_the_verdict_of_the_one_that_is_kept(tmp_path: Path) -> None:
    try:
        path = hosts.make("virtio-nbd-swap", hosts.hosts_directory(), tmp_path)
    except Lacking as trouble:
        pytest.skip(str(trouble))
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    new, kept = (check_record(open_record(one)) for one in (path, bundled_record("virtio-nbd-swap")))
    assert new.verdict == kept.verdict
    assert [user.transport for user in new.users] == [user.transport for user in kept.users]


def test_a_guest_that_fails_keeps_nothing_and_says_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = guest.GuestRun(status=6, files={}, console="+ swapon\nno such device\n", kernel=None, seconds=1.0)  # type: ignore[arg-type]
    monkeypatch.setattr(guest, "run_in_guest", lambda *_: run)
    with pytest.raises(Unsupported, match="no such device"):
        hosts.make("virtio-nbd-swap", hosts.hosts_directory(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_record_that_is_too_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {hosts.RECORD: bytes(hosts.LARGEST_BYTES + 1)}
    run = guest.GuestRun(status=0, files=held, console="", kernel=None, seconds=1.0)  # type: ignore[arg-type]
    monkeypatch.setattr(guest, "run_in_guest", lambda *_: run)
    with pytest.raises(Unsupported, match="300,000 at most"):
        hosts.make("virtio-nbd-swap", hosts.hosts_directory(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_are_listed_with_what_each_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert hosts.main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in listed] == hosts.names(hosts.hosts_directory())


def test_an_unknown_name_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert hosts.main(["no-such-host"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no-such-host.toml" in line
