from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tidegate.rig.relay import Relay, Wire

GUEST, TAP, STORAGE = b"\x52\x54\0\0\0\x01", b"\x52\x54\0\0\0\x02", b"\x52\x54\0\0\0\x03"
PORT = 4420


def frame(to: bytes, sender: bytes, body: bytes) -> bytes:
    return to + sender + b"\x88\xb5" + body


def segment(to: bytes, sender: bytes, source: int, target: int, sequence: int, payload: bytes) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", source, target, sequence, 0, 0x50, 0x18, 0, 0, 0)
    ip = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0, b"\x0a\0\0\x03", b"\x0a\0\0\x01"
    )
    return to + sender + b"\x08\x00" + ip + tcp + payload


class Qemu:
    """The other side of a plug."""

    def __init__(self, folder: Path, name: str) -> None:
        self.far = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.far.bind(str(folder / f"{name}.far"))
        self.own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.own.bind(str(folder / f"{name}.own"))
        self.own.connect(str(folder / f"{name}.far"))

    def got(self) -> list[bytes]:
        frames = []
        while True:
            try:
                frames.append(self.own.recv(65536))
            except BlockingIOError:
                return frames

    def close(self) -> None:
        self.far.close()
        self.own.close()


@dataclass
class Wired:
    relay: Relay
    guest: Qemu
    storage: Qemu
    kernel: socket.socket  # the far side's, behind the tap

    def kernel_got(self) -> list[bytes]:
        frames = []
        while True:
            try:
                frames.append(self.kernel.recv(65536))
            except BlockingIOError:
                return frames


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Wired]:
    guest, storage = Qemu(tmp_path, "guest"), Qemu(tmp_path, "storage")
    tap, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    wire = Wire(queue_frames=20)
    yield Wired(Relay(wire, tap.fileno(), guest.far, PORT, 1, (STORAGE, storage.far)), guest, storage, kernel)
    for one in (guest, storage, tap, kernel):
        one.close()


def hello(wired: Wired) -> None:
    """Each says something first, from which its socket's name is learnt."""
    wired.guest.own.send(frame(TAP, GUEST, b"hello"))
    wired.relay.from_guest()
    wired.storage.own.send(frame(GUEST, STORAGE, b"hello"))
    wired.relay.from_storage()
    assert wired.kernel_got() == [frame(TAP, GUEST, b"hello")]
    assert wired.guest.got() == [frame(GUEST, STORAGE, b"hello")]


def test_what_is_for_the_storage_guest_goes_there_and_the_rest_to_the_tap(wired: Wired) -> None:
    hello(wired)
    for to in (STORAGE, TAP, b"\xff" * 6):
        wired.guest.own.send(frame(to, GUEST, b"x"))
    wired.relay.from_guest()
    assert wired.storage.got() == [frame(STORAGE, GUEST, b"x")]
    assert wired.kernel_got() == [frame(TAP, GUEST, b"x"), frame(b"\xff" * 6, GUEST, b"x")]


def test_the_guest_gets_what_tap_and_storage_send(wired: Wired) -> None:
    hello(wired)
    wired.kernel.send(frame(GUEST, TAP, b"flood"))
    wired.storage.own.send(frame(GUEST, STORAGE, b"reply"))
    wired.relay.from_storage()
    wired.relay.from_tap()
    assert wired.guest.got() == [frame(GUEST, STORAGE, b"reply"), frame(GUEST, TAP, b"flood")]


def test_frames_wait_for_a_guest_that_does_not_take_them_and_one_too_many_is_dropped(wired: Wired) -> None:
    hello(wired)
    wired.guest.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)  # some six frames of this size
    sent = [frame(GUEST, TAP, struct.pack(">I", number)) for number in range(200)]
    for one in sent:
        wired.kernel.send(one)
        wired.relay.from_tap()
    plug = wired.relay.guest
    assert len(plug.waiting) == plug.most_frames == wired.relay.stats()["waiting"]
    taken = wired.guest.got()
    while plug.waiting:
        wired.relay.from_guest()  # the socket can be written to again
        taken += wired.guest.got()
    assert not plug.blocked
    assert taken == sent[: len(taken)]
    assert wired.relay.stats()["queue_dropped"] == len(sent) - len(taken) > 0
    assert wired.relay.stats()["to_guest"] == 1 + len(taken)


def test_the_storage_guests_connection_is_the_block_connection(wired: Wired) -> None:
    hello(wired)
    wired.guest.own.send(segment(STORAGE, GUEST, 40000, PORT, 1, b"request"))
    wired.relay.from_guest()
    wired.storage.own.send(segment(GUEST, STORAGE, PORT, 40000, 700, b"reply"))
    wired.relay.from_storage()
    stats = wired.relay.stats()
    assert (stats["block_from_guest"], stats["block_to_guest"]) == (1, 1)
    assert stats["last_reply_s"] >= 0
    wired.guest.got()
    wired.relay.reset_block_connection()
    (reset,) = wired.guest.got()
    assert reset[:12] == GUEST + STORAGE
    assert struct.unpack(">HHI", reset[34:42]) == (PORT, 40000, 705)
    assert reset[47] == 4  # RST
