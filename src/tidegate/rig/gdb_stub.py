"""As much of gdb's remote serial protocol as it takes to read and write a QEMU guest's memory.

Written through QEMU's stub, a byte of the kernel's text takes effect: the emulator throws away what it had
translated of that page (address_space_write() in its system/physmem.c), which a write into the file that the RAM
lies in would not make it do. The protocol is the appendix of gdb's manual, "Remote Serial Protocol".
"""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tidegate.errors import Exit, TidegateError, Unsupported

SOCKET = "gdb.sock"  # in the guest's folder
_INTERRUPT = b"\x03"
_ANSWER_S = 20.0
_MOST_TRIES = 5
_PIECE_BYTES = 1024  # QEMU's packets end at 4096 characters, and a byte takes two
_STOPPED = re.compile(rb"[TS][0-9a-f]{2}")


class Garbled(TidegateError):
    """The stub said something that is not the protocol, or an error, or nothing in time."""

    exit = Exit.CANNOT_TELL


def checksum(data: bytes) -> int:
    """The sum of all bytes, modulo 256."""
    return sum(data) % 256


def packet(data: bytes) -> bytes:
    """`data` between its dollar sign and its checksum; what would be taken for one of these is escaped."""
    escaped = b"".join(bytes((0x7D, one ^ 0x20)) if one in b"#$}" else bytes((one,)) for one in data)
    return b"$%b#%02x" % (escaped, checksum(escaped))


class GdbStub:
    """A line to a stub. A context: at its end the guest runs on, without a debugger.

    QEMU stops the guest as soon as somebody connects, between two of its instructions.
    """

    def __init__(self, line: socket.socket, answer_s: float = _ANSWER_S) -> None:
        self.line, self.answer_s, self.held = line, answer_s, b""
        self.runs = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.detach()
        finally:
            self.line.close()

    def halt(self) -> bytes:
        """Stops the guest; what the stub says of it (T02...). Harmless when it stands already."""
        if not self.runs:
            return self.ask(b"?")
        # Nothing else may be said now: to QEMU's stub any byte is a stop while the guest runs, and then lost.
        self.line.sendall(_INTERRUPT)
        self.runs = False
        return self._next()

    def go_on(self) -> None:
        """Lets the guest run; the line stays, and halt() must be the next that is asked of it."""
        self._send(b"c")  # answered only when the guest stops again
        self.runs = True

    def detach(self) -> None:
        """Lets the guest run and lets go of it."""
        if self.runs:
            self.halt()
        self._expect_ok(b"D")

    def use_physical_addresses(self) -> None:
        """From now on addresses are the guest's physical ones: whose page tables its CPU uses is then all the same.

        Unsupported by what is not QEMU, or is older than 4.2.
        """
        if self.ask(b"Qqemu.PhyMemMode:1") != b"OK":
            raise Unsupported("gdb stub: cannot take physical addresses, expected QEMU 4.2 or newer")

    def read(self, address: int, length: int) -> bytes:
        """Memory; Garbled where the stub refuses."""
        found = bytearray()
        while len(found) < length:
            size = min(_PIECE_BYTES, length - len(found))
            said = self.ask(b"m%x,%x" % (address + len(found), size))
            try:
                piece = bytes.fromhex(said.decode("ascii"))
            except (UnicodeDecodeError, ValueError):
                piece = b""
            if len(piece) != size:
                where = f"{size} bytes at {address + len(found):#x}"
                raise Garbled(f"gdb stub: read {where}: found {said[:40]!r}, expected them in hexadecimal")
            found += piece
        return bytes(found)

    def write(self, address: int, data: bytes) -> None:
        """Memory; Garbled where the stub refuses."""
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            self._expect_ok(b"M%x,%x:%b" % (address + start, len(piece), piece.hex().encode()))

    def ask(self, command: bytes) -> bytes:
        """One command's answer; empty where the stub does not know it."""
        self._send(command)
        while True:
            said = self._next()
            # QEMU before 8.1 tells of the stop that connecting made whenever it likes, also unasked.
            if command == b"?" or not _STOPPED.match(said):
                return said

    def _expect_ok(self, command: bytes) -> None:
        if (said := self.ask(command)) != b"OK":
            raise Garbled(
                f"gdb stub: {command[:24].decode('ascii', 'replace')}: found {said[:40]!r}, expected OK"
            )

    def _send(self, command: bytes) -> None:
        """Sends a command until the stub has it whole."""
        for _ in range(_MOST_TRIES):
            self.line.sendall(packet(command))
            if self._acknowledged():
                return
        raise Garbled(f"gdb stub: refused {command[:24]!r} {_MOST_TRIES} times, expected +")

    def _acknowledged(self) -> bool:
        """Is the next sign a plus? Packets that came before it are put by."""
        early = b""
        while True:
            sign = self._byte()
            if sign in b"+-":
                self.held = early + self.held
                return sign == b"+"
            if sign == b"$":
                body = self._until_checksum()
                early += packet(body)
                self.line.sendall(b"+")
                if len(early) > _PIECE_BYTES * _MOST_TRIES:
                    raise Garbled(f"gdb stub: found {body[:40]!r} again and again, expected +")

    def _next(self) -> bytes:
        """The next packet that is whole; those that are not are asked for again."""
        for _ in range(_MOST_TRIES):
            while self._byte() != b"$":
                pass
            try:
                body = self._until_checksum()
            except Garbled:
                self.line.sendall(b"-")
                continue
            self.line.sendall(b"+")
            return body
        raise Garbled(f"gdb stub: {_MOST_TRIES} packets with a wrong checksum, expected a right one")

    def _until_checksum(self) -> bytes:
        body = b""
        while (one := self._byte()) != b"#":
            body += one
        told = self._byte() + self._byte()
        if told.lower() != b"%02x" % checksum(body):
            raise Garbled(f"gdb stub: found checksum {told!r}, expected {checksum(body):02x}")
        return re.sub(rb"}(.)", lambda found: bytes((found[1][0] ^ 0x20,)), body, flags=re.DOTALL)

    def _byte(self) -> bytes:
        if not self.held:
            try:
                self.held = self.line.recv(65536)
            except TimeoutError:
                raise Garbled(f"gdb stub: no answer in {self.answer_s:g} s") from None
            if not self.held:
                raise Garbled("gdb stub: the line was closed, expected an answer")
        one, self.held = self.held[:1], self.held[1:]
        return one


def attached(path: Path, answer_s: float = _ANSWER_S) -> GdbStub:
    """The stub that listens there; the guest stands still from now on. Garbled when nobody listens."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(answer_s)
    until = time.monotonic() + answer_s
    while True:
        try:
            line.connect(str(path))
        except OSError as trouble:
            if time.monotonic() < until and isinstance(trouble, (ConnectionRefusedError, FileNotFoundError)):
                time.sleep(0.1)
                continue
            line.close()
            raise Garbled(f"gdb stub: {path}: {trouble.strerror}, expected QEMU to listen there") from None
        break
    return GdbStub(line, answer_s)


def how_to_attach(folder: Path, elf: Path) -> str:
    """The line to type in another terminal; the addresses hold, since these guests boot with nokaslr.

    A shipped kernel is stripped: gdb knows its functions only from a -dbg package's vmlinux in the place of `elf`.
    """
    return f"gdb {elf} -ex 'target remote {folder / SOCKET}'"
