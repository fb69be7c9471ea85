"""What a frame, a request and a connection withdraw: kernel-source sizes against worked examples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import frames
from tidegate.units import KIB, MIB


@pytest.mark.parametrize(
    ("shape", "length", "amount"),
    [
        ("A", 66, 1024),
        ("A", 640, 1024),
        ("A", 641, 1088),
        ("A", 1514, 1920),
        ("A", 9014, 16 * KIB),
        ("A-jumbo", 9014, 16 * KIB),
        ("A-jumbo", 66, 1024),
        ("B", 1514, 2048),
        ("B", 9014, 10 * KIB),
        ("C", 66, 4096),
        ("C", 9014, 12 * KIB),
        ("D", 1514, 4096),
        (None, 66, 4096),
    ],
)
def test_bytes_of_a_received_frame(shape: str | None, length: int, amount: int) -> None:
    assert frames.received_bytes(length, shape) == amount


def test_a_shape_that_is_not_known_is_the_worst_of_a_frame_of_1500() -> None:
    assert frames.received_bytes(1514, None) == max(frames.received_bytes(1514, one) for one in "ABCD")


def test_sending_a_request() -> None:
    assert frames.transmit_request("nbd", 4096) == 4096 + 28 + 1216
    assert frames.transmit_request("nbd", 128 * KIB) == 128 * KIB + 28 + 3 * 1216
    assert frames.transmit_request("nvme-tcp", 4096) == 1216  # pages are referenced, not copied
    assert frames.transmit_request("iscsi", 128 * KIB) == 3 * 1216


def test_nvme_with_sixteen_queues_writes_only() -> None:
    """2.5 MB of heads and 4 MB of small replies; 320 MB when 128 KiB reads fill every socket."""
    heads = 16 * 128 * frames.transmit_request("nvme-tcp", 4096)
    assert heads == pytest.approx(2.5e6, rel=0.01)
    replies = 16 * 128 * frames.receive_request("nvme-tcp", 4096, reads=False, shape="A")
    assert replies == pytest.approx(4.2e6, rel=0.01)
    reads = 128 * frames.receive_request("nvme-tcp", 128 * KIB, reads=True, shape="A")
    queue, backlog = frames.receive_bound(6 * MIB, 4 * MIB)
    assert queue is not None
    assert backlog is not None
    assert queue + backlog == pytest.approx(20 * MIB, rel=0.01)
    assert reads > queue + backlog  # so the socket is what bounds it


def test_one_connection() -> None:
    assert frames.transmit_socket(4 * MIB) == 4 * MIB + 96 * KIB
    assert frames.receive_bound(256 * KIB, 512 * KIB) == (256 * KIB, 832 * KIB)
    assert frames.receive_bound(None, 512 * KIB) == (None, None)
    assert frames.receive_bound(256 * KIB, None) == (256 * KIB, None)


def test_the_smaller_bound_of_queue_and_socket_counts() -> None:
    by_queue, why = frames.transmit_bound("nbd", 4 * MIB, 16, 128 * KIB)
    assert by_queue == 16 * frames.transmit_request("nbd", 128 * KIB) + 32 * KIB < 4 * MIB
    assert why == "16 requests of 131072 bytes"
    by_socket, why = frames.transmit_bound("nbd", 256 * KIB, 128, 1280 * KIB)
    assert by_socket == 352 * KIB
    assert "sndbuf" in why
    assert frames.transmit_bound("nbd", None, None, None)[0] is None
    assert frames.transmit_bound("smb", None, 16, 4096)[0] is not None


@pytest.mark.parametrize(
    ("cpus", "limit", "kernel", "pages", "read"),
    [
        (1, 64, (6, 12, 0), 0, True),
        (2, 64, (6, 12, 0), 2 * 512, True),  # about 2 MB a CPU
        (2, 0, (6, 12, 0), 0, True),
        (2, 64, (5, 15, 0), 0, True),  # before skb_attempt_defer_free()
        (2, None, (6, 12, 0), 2 * 1024, False),
        (4, None, None, 4 * 1024, False),
    ],
)
def test_deferred_skbs(
    cpus: int, limit: int | None, kernel: tuple[int, int, int] | None, pages: int, read: bool
) -> None:
    assert frames.deferred_pages(cpus, limit, kernel, 4096) == (pages, read)


@given(
    st.sampled_from(sorted(frames.COPIES | frames.REFERENCES)),
    st.integers(1, 64 * MIB),
    st.integers(1, 4096),
    st.integers(1, 32 * MIB),
)
def test_more_never_takes_less(transport: str, sndbuf: int, requests: int, size: int) -> None:
    now = frames.transmit_bound(transport, sndbuf, requests, size)[0]
    assert now is not None
    for more in (
        frames.transmit_bound(transport, 2 * sndbuf, requests, size)[0],
        frames.transmit_bound(transport, sndbuf, 2 * requests, size)[0],
        frames.transmit_bound(transport, sndbuf, requests, 2 * size)[0],
        frames.transmit_bound(transport, sndbuf, None, size)[0],
    ):
        assert more is not None
        assert more >= now
    without = frames.transmit_bound(transport, None, requests, size)[0]
    assert without is None or without >= now


@given(st.integers(1, 20_000))
def test_kmalloc_takes_the_next_power_of_two(amount: int) -> None:
    taken = frames.kmalloc_bytes(amount)
    assert taken >= amount > taken // 2
    assert taken & (taken - 1) == 0


def test_jumbo_frames_take_more_for_the_same_data() -> None:
    def read(mtu: int | None, shape: str) -> int:
        return frames.receive_request("nbd", 128 * KIB, reads=True, shape=shape, mtu=mtu)

    assert read(1500, "A") == 91 * 1920
    assert read(9000, "A") == 15 * 16 * KIB
    assert read(None, "A") == read(9000, "A") > read(1500, "A")
    assert read(None, "C") == read(1500, "C") > read(9000, "C")
