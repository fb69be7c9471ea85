"""Who spoke last on the wire: a real wedge's frames, made ones, and the file that people open."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tidegate.errors import BadInput
from tidegate.rig.capture import Frame, Talk, read_pcap, remarks, segments, talk, write_pcapng

WEDGE = Path(__file__).parent.parent / "recorded" / "wedge.pcap"
PORT = 10809
FIN, SYN, RST, ACK = 1, 2, 4, 16


def tcp(
    *,
    to_server: bool,
    sequence: int = 0,
    acknowledged: int = 0,
    payload: int = 0,
    flags: int = ACK,
    window: int = 500,
) -> Frame:
    source, target = (40_000, PORT) if to_server else (PORT, 40_000)
    ip = struct.pack(">BBHIBBHII", 0x45, 0, 40 + payload, 0, 64, 6, 0, 1, 2)
    segment = struct.pack(
        ">HHIIBBHHH",
        source,
        target,
        sequence & 0xFFFFFFFF,
        acknowledged & 0xFFFFFFFF,
        5 << 4,
        flags,
        window,
        0,
        0,
    )
    head = bytes(12) + b"\x08\x00" + ip + segment
    return Frame(100.0, len(head) + payload, head + bytes(min(payload, 26)))


def request(sequence: int, payload: int = 100, **more: int) -> Frame:
    return tcp(to_server=True, sequence=sequence, payload=payload, **more)


def reply(sequence: int, payload: int = 16, **more: int) -> Frame:
    return tcp(to_server=False, sequence=sequence, payload=payload, **more)


def test_a_real_wedge_sends_again_what_the_server_had_acknowledged() -> None:
    frames = read_pcap(WEDGE)
    said = talk(frames, PORT)
    assert said.last_reply is not None
    assert said.last_request is not None
    assert frames[-1].time_s - frames[said.last_reply].time_s == pytest.approx(29.7, abs=0.1)
    assert frames[-1].time_s - frames[said.last_request].time_s == pytest.approx(3.1, abs=0.1)
    assert said.sent_again_though_acknowledged == said.requests_sent_again == 7
    assert said.reply_bytes_untaken == 0


def test_other_ports_frames_and_protocols_are_no_segments_of_it() -> None:
    frames = read_pcap(WEDGE)
    assert len(list(segments(frames, PORT))) == len(frames) - 3
    assert talk(frames, PORT + 1) == Talk()
    assert talk([Frame(1.0, 20, bytes(20)), Frame(1.0, 60, bytes(60))], PORT) == Talk()


def test_a_request_that_the_server_never_takes() -> None:
    frames = [request(1000), request(1000), request(1000)]
    said = talk(frames, PORT)
    assert (said.requests_sent_again, said.sent_again_though_acknowledged) == (2, 0)


def test_an_acknowledgement_that_was_late_is_no_sign_of_a_wedge() -> None:
    frames = [request(1000), reply(7000, 0, acknowledged=1100), request(1000)]
    assert talk(frames, PORT).sent_again_though_acknowledged == 1
    going_on = [*frames, request(1100), reply(7000, 0, acknowledged=1200)]
    assert talk(going_on, PORT).sent_again_though_acknowledged == 0


def test_replies_that_the_guest_never_takes() -> None:
    frames = [
        request(1000, acknowledged=7000),
        reply(7000, acknowledged=1100),
        reply(7000, acknowledged=1100),
    ]
    said = talk(frames, PORT)
    assert (said.reply_bytes_untaken, said.replies_sent_again) == (16, 1)
    taken = talk([*frames, request(1100, 0, acknowledged=7016)], PORT)
    assert (taken.reply_bytes_untaken, taken.replies_sent_again) == (0, 0)


def test_numbers_that_wrap_are_still_in_order() -> None:
    top = 2**32 - 50
    frames = [
        request(top, 100),
        reply(1, 16, acknowledged=top + 100),
        request(top + 100, 10, acknowledged=17),
    ]
    said = talk(frames, PORT)
    assert (said.request_bytes_untaken, said.requests_sent_again, said.reply_bytes_untaken) == (10, 0, 0)


def test_a_new_connection_begins_anew() -> None:
    frames = [request(5000), request(5000), request(9, 0, flags=SYN), request(10, 20)]
    assert talk(frames, PORT).requests_sent_again == 0


@pytest.mark.parametrize(("flag", "reset", "closed"), [(RST, "server", ""), (FIN, "", "server")])
def test_who_ended_it(flag: int, reset: str, closed: str) -> None:
    said = talk([request(1), tcp(to_server=False, flags=flag | ACK), request(1, 0, flags=RST)], PORT)
    assert (said.reset_by, said.closed_by) == (reset or "guest", closed)


def test_a_closed_window_is_seen() -> None:
    assert talk([request(1, window=900), request(1, 0, window=0)], PORT).guest_window == 0


def test_the_file_for_people_has_all_frames_and_two_remarks(tmp_path: Path) -> None:
    from scapy.utils import RawPcapNgReader

    frames = read_pcap(WEDGE)
    told = remarks(frames, talk(frames, PORT), frames[-1].time_s + 10)
    path = tmp_path / "capture.pcapng"
    write_pcapng(path, frames, told)
    with RawPcapNgReader(str(path)) as reader:
        read = list(reader)
    assert [data for data, _ in read] == [frame.head for frame in frames]
    assert [facts.wirelen for _, facts in read] == [frame.length for frame in frames]
    assert (read[0][1].tshigh << 32 | read[0][1].tslow) == round(frames[0].time_s * 1e6)
    said = {number: facts.comments for number, (_, facts) in enumerate(read) if facts.comments}
    assert said == {at: [text.encode()] for at, text in told.items()}
    assert sorted(told.values()) == [
        "last reply of the server, 39.7 s before the look",
        "last request of the guest, 13.1 s before the look",
    ]


def test_a_file_that_is_no_capture(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcap"
    path.write_bytes(b"")
    with pytest.raises(BadInput, match="found nothing, expected a pcap file"):
        read_pcap(path)
    path.write_bytes(b"\x0a\x0d\x0d\x0a" + bytes(40))
    with pytest.raises(BadInput, match="0a0d0d0a"):
        read_pcap(path)


def test_a_capture_that_was_cut_short_gives_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcap"
    path.write_bytes(WEDGE.read_bytes()[: 24 + 2 * 96 + 7])
    assert len(read_pcap(path)) == 2
