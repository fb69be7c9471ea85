"""The wire's last frames: who spoke last, what was sent again, what never was taken; with remarks for people.

The remarks are written by hand as pcapng, 30 lines: scapy's writer takes a packet's remark under a name that changed
(2.6 `comment`, 2.8 `comments`) and forgets how much of a packet was kept. Plain TCP over IPv4 only, as the rig has.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import BadInput

_PCAP = struct.Struct("<IHHiIII")
_RECORD = struct.Struct("<IIII")
_PCAP_MAGIC = 0xA1B2C3D4
_ETHERNET = 1
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6  # pcapng's block types
_BYTE_ORDER = 0x1A2B3C4D
_COMMENT, _END = 1, 0  # pcapng's options
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the wire; `head` is as much of it as was kept."""

    time_s: float  # since the epoch
    length: int
    head: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment of the block connection."""

    at: int  # which frame
    from_guest: bool
    sequence: int
    acknowledged: int
    payload: int
    flags: int
    window: int  # as in the header: 0 is 0 whatever the scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """What the block connection's last frames say. Frames by number from 0, None where there is none."""

    last_reply: int | None = None  # the server's last payload
    last_request: int | None = None  # the guest's last payload
    last_from_guest: int | None = None  # its last segment of any kind
    reply_bytes_untaken: int = 0  # that the server sent and the guest never acknowledged
    request_bytes_untaken: int = 0  # that the guest sent and the server never acknowledged
    replies_sent_again: int = 0  # after the guest's last segment that acknowledged something new
    requests_sent_again: int = 0
    sent_again_though_acknowledged: int = 0  # of those: the acknowledgement passed the wire, in vain
    guest_window: int | None = None  # of its last segment
    reset_by: str = ""  # server, guest
    closed_by: str = ""


def read_pcap(path: Path) -> tuple[Frame, ...]:
    """The frames of a classic pcap file, little-endian, of Ethernet. BadInput for anything else."""
    data = path.read_bytes()
    if len(data) < _PCAP.size or _PCAP.unpack_from(data)[::6] != (_PCAP_MAGIC, _ETHERNET):
        raise BadInput(str(path), "header", data[:4].hex() or "nothing", "a pcap file of Ethernet frames")
    found, at = [], _PCAP.size
    while at + _RECORD.size <= len(data):
        seconds, micros, kept, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        found.append(Frame(seconds + micros / 1e6, length, data[at : at + kept]))
        at += kept
    return tuple(found)


def segments(frames: Sequence[Frame], port: int) -> Iterator[Segment]:
    """The TCP segments from or to the server's port, in order."""
    for at, frame in enumerate(frames):
        head = frame.head
        if len(head) < 54 or head[12:14] != b"\x08\x00" or head[23] != 6:
            continue
        tcp = 14 + (head[14] & 15) * 4
        source, target, sequence, acknowledged, offset, flags, window = struct.unpack_from(
            ">HHIIBBH", head, tcp
        )
        if port not in (source, target):
            continue
        payload = int.from_bytes(head[16:18], "big") - (tcp - 14) - (offset >> 4) * 4
        yield Segment(at, target == port, sequence, acknowledged, payload, flags, window)


def talk(frames: Sequence[Frame], port: int) -> Talk:
    """Who said what last on the block connection; an empty Talk where nothing of it was kept."""
    last: dict[str, int] = {}
    sent: dict[bool, int] = {}  # by who sends: one after the highest byte
    taken: dict[bool, int] = {}  # the highest byte that the other side acknowledged
    again = {False: 0, True: 0}
    window, reset, closed, in_vain = None, "", "", 0
    for one in segments(frames, port):
        if one.flags & _SYN:
            sent, taken = {}, {}
            again, in_vain = {False: 0, True: 0}, 0
        who, other = one.from_guest, not one.from_guest
        end = one.sequence + one.payload & 0xFFFFFFFF
        if one.payload > 0:
            last["request" if who else "reply"] = one.at
            again[who] += who in sent and _ahead(end, sent[who]) <= 0
            in_vain += who and who in taken and _ahead(end, taken[who]) <= 0
        if who not in sent or _ahead(end, sent[who]) > 0:
            sent[who] = end
        if one.flags & _ACK and (other not in taken or _ahead(one.acknowledged, taken[other]) > 0):
            taken[other] = one.acknowledged
            again[other] = 0
            in_vain = in_vain if who else 0
        if who:
            last["guest"], window = one.at, one.window
        name = "guest" if who else "server"
        reset = reset or (name if one.flags & _RST else "")
        closed = closed or (name if one.flags & _FIN else "")
    untaken = {who: max(_ahead(sent[who], taken.get(who, sent[who])), 0) for who in sent}
    return Talk(
        last_reply=last.get("reply"),
        last_request=last.get("request"),
        last_from_guest=last.get("guest"),
        reply_bytes_untaken=untaken.get(False, 0),
        request_bytes_untaken=untaken.get(True, 0),
        replies_sent_again=again[False],
        requests_sent_again=again[True],
        sent_again_though_acknowledged=in_vain,
        guest_window=window,
        reset_by=reset,
        closed_by=closed,
    )


def _ahead(one: int, other: int) -> int:
    """How far sequence number `one` is ahead of `other`, modulo 2^32."""
    return ((one - other + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def remarks(frames: Sequence[Frame], said: Talk, looked_s: float) -> dict[int, str]:
    """What is written at a frame, for those who open the capture: by its number. `looked_s` is since the epoch."""
    found: dict[int, str] = {}
    for at, what in (
        (said.last_reply, "last reply of the server"),
        (said.last_request, "last request of the guest"),
    ):
        if at is not None:
            found[at] = f"{what}, {looked_s - frames[at].time_s:.1f} s before the look"
    return found


def write_pcapng(path: Path, frames: Sequence[Frame], remarks: Mapping[int, str]) -> None:
    """The frames as pcapng, times in microseconds, with the remarks at theirs."""
    with path.open("wb") as file:
        file.write(_block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1)))
        file.write(_block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, 0)))
        for number, frame in enumerate(frames):
            micros = round(frame.time_s * 1e6)
            head = struct.pack("<IIIII", 0, micros >> 32, micros & 0xFFFFFFFF, len(frame.head), frame.length)
            options = b""
            if remark := remarks.get(number):
                text = remark.encode()
                options = (
                    struct.pack("<HH", _COMMENT, len(text)) + _padded(text) + struct.pack("<HH", _END, 0)
                )
            file.write(_block(_PACKET, head + _padded(frame.head) + options))


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
