"""A socket takes what its buffer holds, and TCP no more than all sockets may together."""

from __future__ import annotations

import pytest
from tests.sim.machines import boot, foreign_sock, packet

from tidegate.sim.gfp import GFP_ATOMIC
from tidegate.sim.sock import (
    is_memalloc_sock,
    read_all,
    sk_rmem_schedule,
    sk_set_memalloc,
    sk_uncharge,
    sock_queue_rcv_skb,
)


@pytest.mark.parametrize(("name", "flagged"), [("bare", False), ("patch", True), ("mainline", True)])
def test_the_flag_is_a_hunk(name: str, *, flagged: bool) -> None:
    m = boot(name)
    assert [is_memalloc_sock(sender.conn.sk) for sender in m.users[0].senders] == [flagged, flagged]
    sock = foreign_sock(m)
    assert not is_memalloc_sock(sock)
    sk_set_memalloc(m, sock)
    assert is_memalloc_sock(sock) is flagged


@pytest.mark.parametrize(
    ("protocol", "taken"),
    [("udp", 2), ("tcp", 4)],  # TCP looks at what is charged before: it goes over by the last one
)
def test_a_buffer_takes_what_it_holds(protocol: str, taken: int) -> None:
    m = boot()
    sock = foreign_sock(m, protocol, rcvbuf=4096 * 3 - 1)
    skbs = [packet(m, GFP_ATOMIC, protocol, sock) for _ in range(5)]
    if protocol == "tcp":
        sock.rcvbuf = 4096 * 3
    assert [sock_queue_rcv_skb(m, sock, skb) for skb in skbs] == [number < taken for number in range(5)]
    assert sock.rmem == 4096 * taken == sum(skb.truesize for skb in sock.queue)


def test_a_reader_takes_all_and_frees_it() -> None:
    m = boot()
    sock = foreign_sock(m)
    free = m.zone.free
    for _ in range(5):
        assert sock_queue_rcv_skb(m, sock, packet(m, GFP_ATOMIC, "tcp", sock))
    assert (m.zone.free, m.tcp_bytes) == (free - 5, 5 * 4096)
    assert read_all(m, sock) == 5
    assert (m.zone.free, m.tcp_bytes, sock.rmem, len(sock.queue)) == (free, 0, 0, 0)
    assert read_all(m, sock) == 0


def test_what_was_never_charged_cannot_be_uncharged() -> None:
    m = boot()
    sock = foreign_sock(m)
    with pytest.raises(AssertionError, match="others_sockets"):
        sk_uncharge(m, sock, packet(m, GFP_ATOMIC))


@pytest.mark.parametrize(
    ("name", "mark", "memalloc", "passes"),
    [
        ("mainline", True, True, True),  # __sk_rmem_schedule(): a marked skb on a flagged socket
        ("mainline", True, False, False),
        ("mainline", False, True, False),
        ("mail", True, True, False),  # 2.6.12 has no such exception
    ],
)
def test_who_passes_the_bound_of_all_tcp_sockets(
    name: str, *, mark: bool, memalloc: bool, passes: bool
) -> None:
    m = boot(name, machine={"tcp_mem_pages": 2})
    sock, udp = foreign_sock(m), foreign_sock(m, "udp")
    for _ in range(2):
        assert sock_queue_rcv_skb(m, sock, packet(m, GFP_ATOMIC, "tcp", sock))
    skb = packet(m, GFP_ATOMIC, "tcp", sock)
    skb.mark, sock.memalloc = mark, memalloc
    assert sk_rmem_schedule(m, sock, skb) is passes
    assert ("tcp_mem" in m.seen) is not passes
    assert sk_rmem_schedule(m, udp, skb)  # the bound is TCP's
    sock.rcvbuf = 4096
    assert not sk_rmem_schedule(m, sock, skb)  # nobody passes its own
