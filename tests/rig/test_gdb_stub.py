"""The debugger's line: against a stub of our own that makes every mistake once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tidegate.errors import Unsupported
from tidegate.rig import gdb_stub
from tidegate.rig.gdb_stub import Garbled, GdbStub, packet

BASE = 0x1000


class Fake:
    """A stub with some memory at BASE; `early` is said before anything else, `noise` before each answer."""

    def __init__(self, line: socket.socket, *, early: bytes = b"", refuse: int = 0, spoil: int = 0) -> None:
        self.line, self.early, self.refuse, self.spoil = line, early, refuse, spoil
        self.memory = bytearray(range(256)) * 16
        self.heard: list[bytes] = []
        self.said = b""
        self.other: dict[bytes, bytes] = {b"Qqemu.PhyMemMode:1": b"OK", b"?": b"T05thread:01;", b"D": b"OK"}

    def serve(self) -> None:
        with suppress(ConnectionError):  # the other side may have enough of it
            self._serve()

    def _serve(self) -> None:
        self.line.sendall(self.early)
        held = b""
        while data := self.line.recv(4096):
            held += data
            while held:
                if held[:1] == b"-":
                    self.say()
                if held[:1] in b"+-":
                    held = held[1:]
                elif held[:1] == b"\x03":
                    held = held[1:]
                    self.line.sendall(packet(b"T02thread:01;"))
                elif b"#" in held and len(held) >= held.index(b"#") + 3:
                    body, held = held[1 : held.index(b"#")], held[held.index(b"#") + 3 :]
                    self.answer(body)
                else:
                    break

    def answer(self, body: bytes) -> None:
        if self.refuse:
            self.refuse -= 1
            self.line.sendall(b"-")
            return
        self.heard.append(body)
        if body == b"c":
            self.line.sendall(b"+")
            return
        self.said = packet(self.found(body))
        self.line.sendall(b"+")
        self.say()

    def say(self) -> None:
        self.line.sendall(self.said[:-2] + b"zz" if self.spoil else self.said)
        self.spoil -= 1 if self.spoil else 0

    def found(self, body: bytes) -> bytes:
        if body[:1] not in b"mM":
            return self.other.get(body, b"")
        where, _, text = body[1:].partition(b":")
        address, size = (int(part, 16) for part in where.split(b","))
        at = address - BASE
        if not 0 <= at <= len(self.memory) - size:
            return b"E14"
        if body[:1] == b"m":
            return self.memory[at : at + size].hex().encode()
        self.memory[at : at + size] = bytes.fromhex(text.decode())
        return b"OK"


@contextmanager
def fake(**faults: object) -> Iterator[tuple[GdbStub, Fake]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    other = Fake(theirs, **faults)  # type: ignore[arg-type]
    thread = threading.Thread(target=other.serve)
    thread.start()
    try:
        yield GdbStub(ours, 5), other
    finally:
        ours.close()
        thread.join()
        theirs.close()


def test_a_packet_has_its_sum_and_escapes_its_own_signs() -> None:
    assert packet(b"OK") == b"$OK#9a"
    assert packet(b"a#$}") == b"$a}\x03}\x04}]#3c"
    assert packet(b"") == b"$#00"


def test_memory_is_read_and_written_in_pieces() -> None:
    with fake() as (stub, other):
        assert stub.read(BASE + 3, 3000) == bytes(other.memory[3:3003])
        new = bytes(reversed(range(250))) * 10
        stub.write(BASE + 100, new)
        assert other.memory[100:2600] == new
        assert stub.read(BASE + 100, 2500) == new
        assert [one[:1] for one in other.heard] == [b"m"] * 3 + [b"M"] * 3 + [b"m"] * 3


def test_physical_addresses_are_asked_for() -> None:
    with fake() as (stub, other):
        stub.use_physical_addresses()
        assert other.heard == [b"Qqemu.PhyMemMode:1"]
        del other.other[b"Qqemu.PhyMemMode:1"]
        with pytest.raises(Unsupported, match=r"QEMU 4\.2"):
            stub.use_physical_addresses()


def test_the_guest_is_let_go_at_the_end() -> None:
    with fake() as (stub, other):
        with stub:
            stub.read(BASE, 1)
        assert other.heard[-1] == b"D"


def test_halt_and_go_on() -> None:
    with fake() as (stub, other):
        assert stub.halt().startswith(b"T05")
        stub.go_on()
        assert stub.halt().startswith(b"T02")
        assert stub.read(BASE, 2) == b"\x00\x01"
        assert other.heard == [b"?", b"c", b"m1000,2"]
        stub.go_on()
        stub.detach()
        assert other.heard[-2:] == [b"c", b"D"]


def test_a_stop_that_nobody_asked_for_is_passed_over() -> None:
    stop = packet(b"T05thread:p01.01;")
    with fake(early=stop) as (stub, _other):
        assert stub.read(BASE + 7, 1) == b"\x07"
    with fake(early=b"+" + stop) as (stub, _other):
        assert stub.read(BASE + 7, 1) == b"\x07"


def test_what_is_refused_or_spoilt_is_said_again() -> None:
    with fake(refuse=3, spoil=2) as (stub, other):
        assert stub.read(BASE + 7, 1) == b"\x07"
        assert other.heard == [b"m1007,1"]
    with fake(refuse=9) as (stub, _other), pytest.raises(Garbled, match=r"refused .* 5 times"):
        stub.read(BASE, 1)
    with fake(spoil=9) as (stub, _other), pytest.raises(Garbled, match="5 packets with a wrong checksum"):
        stub.read(BASE, 1)


def test_errors_of_the_stub_are_told() -> None:
    with fake() as (stub, _other):
        with pytest.raises(Garbled, match="read 4 bytes at 0x10: found b'E14'"):
            stub.read(0x10, 4)
        with pytest.raises(Garbled, match=r"M10,1:00: found b'E14', expected OK"):
            stub.write(0x10, b"\x00")


def test_a_line_that_is_silent_or_closed_is_told() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(0.05)
    stub = GdbStub(ours, 0.05)
    with pytest.raises(Garbled, match=r"no answer in 0\.05 s"):
        stub.ask(b"?")
    theirs.close()
    with pytest.raises((Garbled, BrokenPipeError)):
        stub.ask(b"?")
    ours.close()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Garbled, match=r"gdb\.sock: .*expected QEMU to listen there"):
        gdb_stub.attached(tmp_path / "gdb.sock", answer_s=0.1)


def test_how_to_attach() -> None:
    said = gdb_stub.how_to_attach(Path("/run/trial"), Path("vmlinux"))
    assert said == "gdb vmlinux -ex 'target remote /run/trial/gdb.sock'"
