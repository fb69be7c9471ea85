"""What each class of NIC driver does when a receive buffer cannot be had."""

from __future__ import annotations

import pytest
from tests.sim.machines import boot, foreign_sock, leave_free

from tidegate.case import Driver
from tidegate.sim.clock import MS, SECOND
from tidegate.sim.gfp import MEMALLOC
from tidegate.sim.machine import Machine
from tidegate.sim.nic import nic_close, nic_receive
from tidegate.sim.owners import check_owners
from tidegate.sim.skbuff import Frame

RING = 8


def machine(driver: str, *, name: str = "bare", free: int | None = None, **nic: object) -> Machine:
    m = boot(name, nic={"driver": driver, "ring": RING, "delivery": "napi"} | nic)
    if free is not None:
        leave_free(m, free)
    return m


def arrive(m: Machine, number: int = 1, *, length: int = 1514) -> None:
    """So many frames of others, each handled before the next comes. Their socket keeps them."""
    sock = m.foreign_socks[0] if m.foreign_socks else foreign_sock(m)
    for _ in range(number):
        nic_receive(m, Frame("tcp", length, sock))
        m.clock.run(m.clock.now + MS // 10)
    check_owners(m)


def short(driver: str, *, name: str = "bare", **nic: object) -> Machine:
    """GFP_ATOMIC finds nothing; kswapd has nothing to write."""
    return machine(driver, name=name, free=40, **nic)


@pytest.mark.parametrize("driver", list(Driver))
def test_with_memory_every_frame_goes_up_and_the_ring_stays_full(driver: Driver) -> None:
    m = machine(driver)
    arrive(m, 3 * RING)
    assert m.foreign == {"arrived": 24, "delivered": 24}
    assert not m.drops
    assert len(m.nic.area) == (0 if driver is Driver.COPY else RING)


def test_copy_drops_the_packet_and_keeps_its_buffers() -> None:
    m = short("copy")
    arrive(m, 2 * RING)
    assert m.drops == {"RX_NOBUF": 16}
    leave_free_again(m)
    arrive(m, RING)
    assert m.drops == {"RX_NOBUF": 16}
    assert m.foreign["delivered"] == RING


def test_recycle_drops_the_packet_and_posts_its_old_buffer_again() -> None:
    m = short("recycle")
    arrive(m, 2 * RING)
    assert m.drops == {"RX_NOBUF": 16}
    assert len(m.nic.area) == RING  # the ring never runs dry


@pytest.mark.parametrize("driver", ["empty", "pool", "worker"])
def test_the_others_hand_the_packet_up_and_leave_the_slot_empty(driver: str) -> None:
    m = short(driver)
    arrive(m, 2)
    assert (m.foreign["delivered"], len(m.nic.area)) == (2, RING - 2)
    if driver == "worker":
        return
    arrive(m, 2 * RING - 2)
    assert (m.foreign["delivered"], len(m.nic.area)) == (RING, 0)
    assert m.drops == {"RX_MISSED": RING}
    assert m.nic.low_water == 0
    assert "ring_empty" in m.seen


@pytest.mark.parametrize(("driver", "wait_ns"), [("empty", 2 * SECOND), ("pool", 10 * MS)])
def test_when_an_empty_slot_is_filled_again(driver: str, wait_ns: int) -> None:
    """e1000's watchdog raises an interrupt every two seconds; a poll that could not refill comes again soon."""
    m = short(driver)
    arrive(m, RING)
    assert len(m.nic.area) == 0
    leave_free_again(m)
    first = m.clock.now - RING * MS // 10  # when the first refill failed, 5 us after its packet
    m.clock.run(first + wait_ns)
    assert len(m.nic.area) == 0
    m.clock.run(first + wait_ns + MS)
    assert len(m.nic.area) == RING


def test_a_watchdog_that_finds_no_memory_comes_back() -> None:
    m = short("empty")
    arrive(m, RING)
    m.clock.run(9 * SECOND)
    assert m.steps["nic_watchdog"] == 4
    assert len(m.nic.area) == 0


def leave_free_again(m: Machine) -> None:
    m.programs_pages -= 200
    m.zone.free += 200


def test_the_worker_turns_the_poll_off_and_waits_for_memory() -> None:
    m = short("worker")
    arrive(m)
    m.clock.run(m.clock.now + 2 * MS)
    assert (m.nic.off, m.nic.waking) == (True, True)
    assert "poll_off" in m.seen
    delivered = m.foreign["delivered"]
    arrive(m, 3)  # filled by the hardware, and nobody looks
    assert (m.foreign["delivered"], len(m.nic.done)) == (delivered, 3)
    assert m.reclaim.kernel_waiters == 1
    leave_free_again(m)
    m.reclaim._wake()
    m.clock.run(m.clock.now + 2 * MS)
    assert (m.nic.off, m.nic.waking) == (False, False)
    assert (m.foreign["delivered"], len(m.nic.area)) == (delivered + 3, RING)
    assert m.reclaim.kernel_waiters == 0


@pytest.mark.parametrize("driver", ["copy", "recycle", "empty", "pool"])
def test_a_driver_that_may_use_the_reserve_goes_on_with_it(driver: str) -> None:
    m = short(driver, name="mail")
    arrive(m, 30)
    # A marked packet of others is dropped, and its buffer is there for the next one.
    assert "RX_NOBUF" not in m.drops
    assert "RX_MISSED" not in m.drops
    assert m.drops["PFMEMALLOC"] > 0
    assert m.zone.low_water >= 40 - RING - 1


@pytest.mark.parametrize(
    ("name", "access", "flag"),
    [
        ("bare", "always", False),
        ("patch_first", "never", True),  # every dev_alloc_skb()
        ("patch", "never", False),
        ("patch", "key", True),  # the driver was converted to dev_memalloc_skb()
        ("mainline", "never", False),
        ("mainline", "key", True),
        ("mainline", "always", True),
    ],
)
def test_which_drivers_ask_for_the_reserve(name: str, access: str, *, flag: bool) -> None:
    m = machine("empty", name=name, access=access)
    assert bool(m.nic.gfp & MEMALLOC) is flag


def test_method_1_fills_the_whole_ring_from_the_reserve_and_method_2_one_buffer() -> None:
    for name, slots in (("mail", RING), ("e1000_method_2", 1)):
        m = short("empty", name=name)
        sock = foreign_sock(m)
        sock.memalloc = True  # so that what is marked is kept, and not dropped
        for _ in range(3 * RING):
            nic_receive(m, Frame("tcp", 1514, sock))
            m.clock.run(m.clock.now + MS // 10)
        assert len(m.nic.area) == slots, name
        assert sum(skb.mark for skb in m.nic.area) == slots


def test_copybreak_leaves_the_buffer_in_the_ring() -> None:
    m = machine("empty", copybreak_bytes=256)
    before = set(map(id, m.nic.area))
    arrive(m, RING, length=66)
    assert set(map(id, m.nic.area)) == before
    assert m.foreign["delivered"] == RING
    arrive(m, 1, length=1514)
    assert set(map(id, m.nic.area)) != before


@pytest.mark.parametrize("driver", ["copy", "empty"])
def test_hardware_has_so_many_slots(driver: str) -> None:
    m = machine(driver)
    sock = foreign_sock(m)
    for _ in range(RING + 3):  # before the interrupt comes
        nic_receive(m, Frame("tcp", 1514, sock))
    assert m.drops == {"RX_MISSED": 3}


def test_frames_are_handled_one_after_the_other() -> None:
    m = machine("empty")
    sock = foreign_sock(m)
    for _ in range(3):
        nic_receive(m, Frame("tcp", 1514, sock))
    m.clock.run(5_000)
    assert m.foreign["delivered"] == 1
    m.clock.run(5_000 + m.packet_ns)
    assert m.foreign["delivered"] == 2
    m.clock.run(MS)
    assert (m.foreign["delivered"], m.nic.busy) == (3, False)


def test_an_interrupt_is_shorter_than_a_softirq_unless_it_does_its_work() -> None:
    times = {}
    for name, free in (("mail", 40), ("bare", 400)):
        m = machine("copy", name=name, free=free, delivery="netif_rx")
        sock = foreign_sock(m)
        for _ in range(RING):
            nic_receive(m, Frame("tcp", 1514, sock))
        m.clock.run(MS)
        times[name] = m.nic.free_at
    assert times["bare"] == 5_000 + RING * m.packet_ns // 4
    assert times["mail"] == times["bare"] + RING * m.packet_ns  # every packet passes softnet


def test_a_block_reply_without_memory_is_the_moment_that_matters() -> None:
    m = short("recycle")
    conn = m.users[0].senders[0].conn
    frame = Frame("tcp", 82, conn.sk, conn)
    frame.kind = "data"
    nic_receive(m, frame)
    m.clock.run(MS)
    assert m.block_drops == {"RX_NOBUF": 1}
    assert "reply_lost" in m.seen


def test_closing_gives_the_ring_back() -> None:
    m = machine("empty")
    free = m.zone.free
    nic_close(m)
    assert (m.zone.free, len(m.nic.area)) == (free + RING, 0)
    check_owners(m)
