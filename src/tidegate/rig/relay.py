"""The wire between a guest and the far side: every frame passes here, and can be late, lost or out of order.

Chance is seeded, so that the n-th frame of a direction meets the same fate in every run with that seed. The block
connection's own frames are kept for the capture, those of others only the last few.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import socket
import struct
import time
from collections import deque
from pathlib import Path

import msgspec

_SNAP_BYTES = 128
_KEPT_BLOCK, _KEPT_OTHER = 20_000, 2_000
_MOST_AT_ONCE = 64  # frames of one direction before the other has its turn
_FRAME_BYTES = 65_536
_PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _SNAP_BYTES, 1)


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the wire does to frames, the same both ways."""

    delay_us: int = 0
    jitter_us: int = 0
    loss_ppm: int = 0
    reorder_ppm: int = 0  # frames that wait so much longer that later ones pass them
    reorder_us: int = 2_000
    rate_kbit: int = 0  # 0: no bound
    queue_frames: int = (
        512  # that wait for a guest which does not take them; more are dropped, as at a switch
    )


class Plug:
    """One end of the wire that is QEMU's: its socket, and the frames that wait for it."""

    def __init__(self, socket: socket.socket, most_frames: int) -> None:
        self.socket, self.most_frames = socket, most_frames
        self.path = ""  # of QEMU's own socket
        self.waiting: deque[bytes] = deque()
        self.blocked = False
        self.sent = self.dropped = 0

    def take(self) -> bytes | None:
        """The next frame that QEMU sends, None for none; its socket's name is learnt from the first one."""
        try:
            frame, sender = self.socket.recvfrom(_FRAME_BYTES)
        except (BlockingIOError, ConnectionError):
            return None
        if not self.path and sender:
            self.path = sender if isinstance(sender, str) else sender.decode()
            self.socket.connect(self.path)
        return frame

    def give(self, frame: bytes) -> None:
        """Sends a frame, or lets it wait; one too many is dropped, as at a switch."""
        if len(self.waiting) >= self.most_frames:
            self.dropped += 1
            return
        self.waiting.append(frame)
        if not self.blocked:
            self.flush()

    def flush(self) -> None:
        """A guest whose receive ring is empty makes QEMU stop reading: frames then wait here, as in a switch."""
        while self.waiting and self.path:
            try:
                self.socket.send(self.waiting[0])
            except BlockingIOError:
                self.blocked = True
                return
            except OSError:
                pass  # QEMU is gone: the frame is lost
            self.waiting.popleft()
            self.sent += 1
        self.blocked = False


class Relay:
    """Both directions of one wire. Frames go at once when nothing is to be done to them.

    The far end is a tap, and beside it, where the server is a guest of its own, that guest's plug: what is addressed
    to its MAC goes there.
    """

    def __init__(
        self,
        wire: Wire,
        tap: int,
        guest: socket.socket,
        block_port: int,
        seed: int,
        storage: tuple[bytes, socket.socket] | None = None,
    ) -> None:
        self.wire, self.tap, self.block_port = wire, tap, block_port
        self.guest = Plug(guest, wire.queue_frames)
        self.storage_mac = storage[0] if storage else b""
        self.storage = Plug(storage[1], wire.queue_frames) if storage else None
        self.chance = (random.Random(seed * 2), random.Random(seed * 2 + 1))  # noqa: S311 - to the guest, from it
        self.late: list[tuple[float, int, int, bytes]] = []
        self.number = 0
        self.free_at = [0.0, 0.0]  # when the wire has sent what it was given, by direction
        self.counts = dict.fromkeys(("from_guest", "lost", "block_to_guest", "block_from_guest"), 0)
        self.block_frames: deque[tuple[float, int, int, bytes]] = deque(maxlen=_KEPT_BLOCK)
        self.other_frames: deque[tuple[float, int, int, bytes]] = deque(maxlen=_KEPT_OTHER)
        self.last_reply = 0.0  # when the server's last payload went to the guest
        self.last_request = 0.0
        self.plain = wire == Wire(queue_frames=wire.queue_frames)

    def from_tap(self) -> None:
        """Takes what the far side's kernel sends."""
        for _ in range(_MOST_AT_ONCE):
            try:
                frame = os.read(self.tap, _FRAME_BYTES)
            except BlockingIOError:
                return
            self._take(0, frame)

    def from_guest(self) -> None:
        """Takes what the guest sends."""
        self._from(self.guest, 1)

    def from_storage(self) -> None:
        """Takes what the server's guest sends."""
        if self.storage is not None:
            self._from(self.storage, 0)

    def _from(self, plug: Plug, way: int) -> None:
        for _ in range(_MOST_AT_ONCE):
            frame = plug.take()
            if frame is None:
                break
            self._take(way, frame)
        if plug.blocked:
            plug.flush()

    def _take(self, way: int, frame: bytes) -> None:
        now = time.monotonic()
        self._remember(way, frame, now)
        if self.plain:
            self._deliver(way, frame)
            return
        wire, chance = self.wire, self.chance[way]
        lost, swapped, jitter = chance.random(), chance.random(), chance.random()
        if lost * 1_000_000 < wire.loss_ppm:
            self.counts["lost"] += 1
            return
        start = max(now, self.free_at[way])
        if wire.rate_kbit:
            start += len(frame) * 8 / (wire.rate_kbit * 1000)
            self.free_at[way] = start
        due = start + (wire.delay_us + jitter * wire.jitter_us) / 1e6
        if swapped * 1_000_000 < wire.reorder_ppm:
            due += wire.reorder_us / 1e6
        self.number += 1
        heapq.heappush(self.late, (due, self.number, way, frame))

    def due(self) -> None:
        """Delivers the frames whose time has come."""
        now = time.monotonic()
        while self.late and self.late[0][0] <= now:
            _, _, way, frame = heapq.heappop(self.late)
            self._deliver(way, frame)

    def wait_s(self) -> float | None:
        """How long nothing is to be done unless a frame comes; None: for ever."""
        return max(self.late[0][0] - time.monotonic(), 0.0) if self.late else None

    def _deliver(self, way: int, frame: bytes) -> None:
        if not way:
            self.guest.give(frame)
            return
        self.counts["from_guest"] += 1
        if self.storage is not None and frame[:6] == self.storage_mac:
            self.storage.give(frame)
        else:
            with contextlib.suppress(OSError):
                os.write(self.tap, frame)

    def _remember(self, way: int, frame: bytes, now: float) -> None:
        """Keeps the frame's head for the capture; `block` is TCP from or to the server's port."""
        kept = (now, way, len(frame), frame[:_SNAP_BYTES])
        if len(frame) >= 54 and frame[12:14] == b"\x08\x00" and frame[23] == 6:
            at = 14 + (frame[14] & 15) * 4
            whole = len(frame) >= at + 20  # a storm may send anything
            if whole and int.from_bytes(frame[at + 2 * way : at + 2 * way + 2], "big") == self.block_port:
                self.block_frames.append(kept)
                self.counts["block_from_guest" if way else "block_to_guest"] += 1
                length = int.from_bytes(frame[16:18], "big") - (at - 14) - (frame[at + 12] >> 4) * 4
                if length > 0 and way:
                    self.last_request = now
                elif length > 0:
                    self.last_reply = now
                return
        self.other_frames.append(kept)

    def reset_block_connection(self) -> None:
        """Sends the guest the RST that a middlebox or a rebooted server would: next byte of the last segment."""
        for _, way, _, head in reversed(self.block_frames):
            if way:
                continue
            at = 14 + (head[14] & 15) * 4
            payload = int.from_bytes(head[16:18], "big") - (at - 14) - (head[at + 12] >> 4) * 4
            sequence = (int.from_bytes(head[at + 4 : at + 8], "big") + payload) & 0xFFFFFFFF
            reset = _rst(head, at, sequence)
            self._remember(0, reset, time.monotonic())
            self._deliver(0, reset)
            return

    def write_capture(self, path: Path) -> None:
        """The frames that are kept, in order, as a classic pcap file cut at 128 bytes a frame."""
        wall = time.time() - time.monotonic()
        with path.open("wb") as file:
            file.write(_PCAP_HEADER)
            for now, _, length, head in sorted([*self.block_frames, *self.other_frames]):
                whole = wall + now
                file.write(struct.pack("<IIII", int(whole), int(whole % 1 * 1e6), len(head), length) + head)

    def stats(self) -> dict[str, float]:
        """Counts, and how long ago the last reply and the last request passed, in seconds (-1: never)."""
        now = time.monotonic()
        ages = {"last_reply_s": self.last_reply, "last_request_s": self.last_request}
        return {
            **self.counts,
            "to_guest": self.guest.sent,
            "queue_dropped": self.guest.dropped,
            "waiting": len(self.guest.waiting),
            **{name: now - at if at else -1.0 for name, at in ages.items()},
        }


def _rst(head: bytes, at: int, sequence: int) -> bytes:
    """An Ethernet frame with a bare RST, made after a segment of the same direction."""
    ip = bytearray(head[14:at])
    ip[2:4] = (len(ip) + 20).to_bytes(2, "big")
    ip[10:12] = b"\0\0"
    ip[10:12] = _checksum(bytes(ip)).to_bytes(2, "big")
    tcp = bytearray(
        struct.pack(">HHIIBBHHH", *struct.unpack(">HH", head[at : at + 4]), sequence, 0, 0x50, 4, 0, 0, 0)
    )
    pseudo = bytes(ip[12:20]) + struct.pack(">BBH", 0, 6, len(tcp))
    tcp[16:18] = _checksum(pseudo + bytes(tcp)).to_bytes(2, "big")
    return head[:14] + bytes(ip) + bytes(tcp)


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
