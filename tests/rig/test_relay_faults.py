"""What the wire does to frames: chance is seeded, time is a clock of ours, a made RST is one that a kernel takes."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.rig import relay as relay_module
from tidegate.rig.relay import Relay, Wire

PORT, CLIENT = 10809, 40000
OURS, GUEST = b"\x52\x54\0\x99\0\x02", b"\x52\x54\0\x12\x34\x56"
TO_GUEST, FROM_GUEST = 0, 1


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(relay_module, "time", made)
    return made


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The guest's plug, from which nothing came yet, so that frames to the guest wait in order; and a tap."""
    guest = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    tap, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    yield guest, tap
    for one in (guest, tap, kernel):
        one.close()


Ends = tuple[socket.socket, socket.socket]


def relay(ends: Ends, seed: int = 1, **wire: int) -> Relay:
    guest, tap = ends
    return Relay(Wire(**{"queue_frames": 10_000, **wire}), tap.fileno(), guest, PORT, seed)


def numbered(number: int, size: int = 100) -> bytes:
    return (GUEST + OURS + b"\x88\xb5" + struct.pack(">I", number)).ljust(size, b"\0")


def arrived(one: Relay) -> list[int]:
    found = [struct.unpack_from(">I", frame, 14)[0] for frame in one.guest.waiting]
    one.guest.waiting.clear()
    return found


def after(ends: Ends, clock: Clock, seed: int, count: int = 4000, **wire: int) -> list[int]:
    """The frames that come through, in the order they come, sent 10 us apart."""
    one = relay(ends, seed, **wire)
    for number in range(count):
        clock.now += 10e-6
        one._take(TO_GUEST, numbered(number))
        one.due()
    clock.now += 60
    one.due()
    assert one.wait_s() is None
    return arrived(one)


def test_loss_and_order_are_the_same_for_the_same_seed(ends: Ends, clock: Clock) -> None:
    wire = {"loss_ppm": 50_000, "reorder_ppm": 20_000, "jitter_us": 300}
    first = after(ends, clock, 7, **wire)
    assert after(ends, clock, 7, **wire) == first
    assert after(ends, clock, 8, **wire) != first
    assert first != sorted(first)
    assert 0.03 < 1 - len(first) / 4000 < 0.07


def test_one_directions_traffic_does_not_change_the_others_fate(ends: Ends, clock: Clock) -> None:
    alone = after(ends, clock, 7, loss_ppm=50_000)
    one = relay(ends, 7, loss_ppm=50_000)
    for number in range(4000):
        one._take(FROM_GUEST, numbered(number))
        one._take(TO_GUEST, numbered(number))
        one.due()
    assert arrived(one) == alone


def test_each_kind_of_chance_by_itself(ends: Ends, clock: Clock) -> None:
    lossy = after(ends, clock, 3, loss_ppm=100_000)
    assert lossy == sorted(lossy)
    late = after(ends, clock, 3, reorder_ppm=100_000)
    assert late != sorted(late)
    assert sorted(late) == list(range(4000))
    assert after(ends, clock, 3, loss_ppm=1_000_000) == []
    # Which frames are lost does not depend on what else is asked of the wire.
    assert sorted(after(ends, clock, 3, loss_ppm=100_000, reorder_ppm=100_000, delay_us=5)) == lossy


def test_a_delay_is_the_delay(ends: Ends, clock: Clock) -> None:
    one = relay(ends, delay_us=50_000)
    one._take(TO_GUEST, numbered(1))
    clock.now += 0.010
    one._take(TO_GUEST, numbered(2))
    assert one.wait_s() == pytest.approx(0.040)
    clock.now += 0.0399
    one.due()
    assert arrived(one) == []
    clock.now += 0.0002
    one.due()
    assert arrived(one) == [1]
    clock.now += 0.010
    one.due()
    assert arrived(one) == [2]


def test_jitter_is_between_none_and_all_of_it(ends: Ends, clock: Clock) -> None:
    one = relay(ends, delay_us=1000, jitter_us=400)
    for number in range(1000):
        one._take(TO_GUEST, numbered(number))
    waits = sorted(due - clock.now for due, *_ in one.late)
    assert 0.001 <= waits[0] < 0.00101
    assert 0.00139 < waits[-1] <= 0.0014


def test_a_rate_is_shared_by_the_frames_of_one_direction(ends: Ends, clock: Clock) -> None:
    one = relay(ends, rate_kbit=800)  # 1000 bytes take 10 ms
    for number in range(3):
        one._take(TO_GUEST, numbered(number, 1000))
        one._take(FROM_GUEST, numbered(number, 1000))
    dues = sorted((way, round(due - clock.now, 6)) for due, _, way, _ in one.late)
    assert dues == [(way, at) for way in (0, 1) for at in (0.01, 0.02, 0.03)]
    clock.now += 10  # an idle wire saves nothing up
    one._take(TO_GUEST, numbered(9, 1000))
    assert max(due for due, *_ in one.late) == pytest.approx(clock.now + 0.01)


def test_the_queue_to_a_guest_that_takes_nothing_is_bounded(ends: Ends, clock: Clock) -> None:
    one = relay(ends, queue_frames=5)
    for number in range(12):
        one._take(TO_GUEST, numbered(number))
    assert one.stats()["queue_dropped"] == 7
    assert arrived(one) == [0, 1, 2, 3, 4]


def segment(way: int, sequence: int, payload: bytes, options: bytes = b"") -> bytes:
    """One of the block connection; with TCP options, as every real one has."""
    ports = (PORT, CLIENT) if way == TO_GUEST else (CLIENT, PORT)
    addresses = b"\x0a\x63\0\x02\x0a\x63\0\x01" if way == TO_GUEST else b"\x0a\x63\0\x01\x0a\x63\0\x02"
    length = 20 + len(options)
    tcp = struct.pack(">HHIIBBHHH", *ports, sequence, 77, length // 4 << 4, 0x18, 500, 0xBEEF, 0) + options
    ip = struct.pack(">BBHHHBBH8s", 0x45, 0, 20 + length + len(payload), 9, 0x4000, 64, 6, 0xDEAD, addresses)
    macs = GUEST + OURS if way == TO_GUEST else OURS + GUEST
    return macs + b"\x08\x00" + ip + tcp + payload


@pytest.mark.parametrize("sequence", [1, 0xFFFFFFFE])
@pytest.mark.parametrize("options", [b"", b"\x01\x01\x08\x0a" + bytes(8)])
def test_a_reset_has_the_next_sequence_number_and_right_checksums(
    ends: Ends, clock: Clock, sequence: int, options: bytes
) -> None:
    inet = pytest.importorskip("scapy.layers.inet")
    l2 = pytest.importorskip("scapy.layers.l2")
    one = relay(ends)
    one._take(TO_GUEST, segment(TO_GUEST, sequence, b"reply of the server", options))
    one._take(FROM_GUEST, segment(FROM_GUEST, 5000, b"request"))
    one.guest.waiting.clear()
    one.reset_block_connection()
    (raw,) = one.guest.waiting
    made = l2.Ether(raw)
    ip, tcp = made[inet.IP], made[inet.TCP]
    assert (made.dst, ip.src, ip.dst, ip.len) == ("52:54:00:12:34:56", "10.99.0.2", "10.99.0.1", 40)
    assert (tcp.sport, tcp.dport, str(tcp.flags)) == (PORT, CLIENT, "R")
    assert tcp.seq == (sequence + len(b"reply of the server")) % 2**32
    told = (ip.chksum, tcp.chksum)
    del ip.chksum, tcp.chksum
    again = l2.Ether(bytes(made))
    assert (again[inet.IP].chksum, again[inet.TCP].chksum) == told


def test_without_a_block_connection_there_is_nothing_to_reset(ends: Ends, clock: Clock) -> None:
    one = relay(ends)
    one._take(FROM_GUEST, segment(FROM_GUEST, 1, b"request"))
    one.reset_block_connection()
    assert not one.guest.waiting


def test_the_last_reply_and_request_are_payload_not_acknowledgements(ends: Ends, clock: Clock) -> None:
    one = relay(ends)
    assert (one.stats()["last_reply_s"], one.stats()["last_request_s"]) == (-1.0, -1.0)
    one._take(TO_GUEST, segment(TO_GUEST, 1, b"reply"))
    clock.now += 3
    one._take(FROM_GUEST, segment(FROM_GUEST, 1, b"request"))
    clock.now += 2
    one._take(TO_GUEST, segment(TO_GUEST, 6, b""))
    one._take(FROM_GUEST, segment(FROM_GUEST, 8, b""))
    stats = one.stats()
    assert [stats["last_reply_s"], stats["last_request_s"]] == pytest.approx([5, 2])
    assert (stats["block_to_guest"], stats["block_from_guest"]) == (2, 2)


def test_scapy_reads_the_capture(ends: Ends, clock: Clock, tmp_path: Path) -> None:
    utils = pytest.importorskip("scapy.utils")
    pytest.importorskip("scapy.layers.l2")
    one = relay(ends)
    sent = []
    for number in range(6):
        clock.now += 0.25
        frame = segment(number % 2, number, bytes(400)) if number % 3 else numbered(number)
        one._take(number % 2, frame)
        sent.append((frame, 1_700_000_000.0 + clock.now))
    one.write_capture(tmp_path / "capture.pcap")
    read = utils.rdpcap(str(tmp_path / "capture.pcap"))
    assert [bytes(one) for one in read] == [frame[:128] for frame, _ in sent]
    assert [one.wirelen for one in read] == [len(frame) for frame, _ in sent]
    assert [float(one.time) for one in read] == [pytest.approx(at, abs=2e-6) for _, at in sent]


def test_no_frame_makes_the_relay_stumble(ends: Ends, clock: Clock) -> None:
    """A flood may send anything at all."""
    drawn = random.Random(5)
    one = relay(ends)
    port = PORT.to_bytes(2, "big")
    one._take(
        TO_GUEST, (bytes(12) + b"\x08\x00\x49" + bytes(8) + b"\x06").ljust(50, b"\0") + port * 2
    )  # cut off
    for _ in range(3000):
        data = bytearray(drawn.randbytes(drawn.randrange(14, 200)))
        if drawn.random() < 0.8:
            data[12:14] = b"\x08\x00"
        if len(data) > 37 and drawn.random() < 0.8:
            data[23] = 6
            data[34:36] = data[36:38] = port
        one._take(drawn.randrange(2), bytes(data))
    one.reset_block_connection()
