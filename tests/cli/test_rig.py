"""`tidegate rig doctor`: one line a part, JSON, and the exit code."""

from __future__ import annotations

import json

import pytest

from tidegate.cli import COMMANDS, main
from tidegate.cli import rig as command
from tidegate.errors import Exit
from tidegate.rig import doctor
from tidegate.rig.doctor import Doctor, Item, State

QEMU = Item(name="qemu-system-x86_64", state=State.OK, found="9.2", needed=True)
TGTD = Item(name="tgtd", state=State.MISSING, found="not here", cure="install tgt")
NBDKIT = Item(name="nbdkit", state=State.MISSING, found="not\there", cure="install nbdkit", needed=True)


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "rig", command.SUMMARY)


def examined(monkeypatch: pytest.MonkeyPatch, *items: Item) -> None:
    can = not any(item.needed and item.state is State.MISSING for item in items)
    told = Doctor(items=items, nbd_trials=can, guests=7, cores=2)
    monkeypatch.setattr(doctor, "examine", lambda: told)


def test_a_machine_that_can(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    examined(monkeypatch, QEMU, TGTD)
    assert main(["rig", "doctor"]) == Exit.OK
    assert capsys.readouterr().out == (
        "ok      * qemu-system-x86_64  9.2\n"
        "missing   tgtd                not here  ->  install tgt\n"
        "trials with NBD can run here, 7 guests at a time by memory, on 2 cores\n"
    )


def test_a_machine_that_cannot(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    examined(monkeypatch, QEMU, TGTD, NBDKIT)
    assert main(["rig", "doctor"]) == Exit.LACKING
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "missing * nbdkit              not\\there  ->  install nbdkit",
        "trials with NBD cannot run here: nbdkit",
    ]


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    examined(monkeypatch, QEMU, NBDKIT)
    assert main(["rig", "doctor", "--json"]) == Exit.LACKING
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["nbd_trials"], told["guests"]) == ("tidegate.rig-doctor/1", False, 7)
    assert told["items"][1] == {
        "name": "nbdkit", "state": "missing", "found": "not\there", "cure": "install nbdkit", "needed": True,
    }  # fmt: skip


@pytest.mark.parametrize("words", [[], ["nurse"]])
def test_wrong_words_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rig", *words]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tidegate: rig: ")
    assert err.count("\n") == 1


def test_this_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it has, each part has a state, and each that is missing a cure."""
    monkeypatch.setenv("TIDEGATE_ACCEL", "tcg")  # no boot
    code = main(["rig", "doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == (Exit.OK if told["nbd_trials"] else Exit.LACKING)
    assert [item["name"] for item in told["items"] if item["state"] == "missing" and not item["cure"]] == []
