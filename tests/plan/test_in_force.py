from __future__ import annotations

from dataclasses import replace

from tests.findings import hosts
from tests.plan import stock

from tidegate import setting_ids as ids
from tidegate import watermarks
from tidegate.host.load import connections_of
from tidegate.plan.in_force import with_min_free, with_settings
from tidegate.result import Basis, Law, Setting


def put(name: str, new: str) -> Setting:
    return Setting(id=name, law=Law.RESERVE, path="", old=None, new=new, why="", basis=Basis.ARITHMETIC)


def test_every_id_that_a_plan_may_hold_can_be_put_in_force() -> None:
    host = stock.host()
    for name in ids.SYSCTLS:
        if name in host.sysctls:
            value = "16 32 64" if "mem" in name.rsplit(".", 1)[-1] and "ipv4" in name else "64"
            assert with_settings(host, [put(name, value)]).sysctls[name].split() == value.split()


def test_min_free_moves_the_watermarks_as_the_kernel_does() -> None:
    host = with_min_free(stock.host(), 8192)
    assert host.memory is not None
    assert host.memory.min_free_kib == 8192
    assert host.sysctls[ids.MIN_FREE] == "8192"
    managed = sum(zone.managed for zone in host.memory.zones if watermarks.serves_kernel(zone))
    for zone in host.memory.zones:
        assert zone.min == 2048 * zone.managed // managed
        assert zone.free >= min(zone.high, zone.managed)


def test_kswapd_has_freed_up_to_the_new_high_mark() -> None:
    host = stock.host()
    assert host.memory is not None
    short = tuple(replace(zone, free=zone.min) for zone in host.memory.zones)
    after = with_min_free(replace(host, memory=replace(host.memory, zones=short)), 8192).memory
    assert after is not None
    assert [zone.free for zone in after.zones] == [min(zone.high, zone.managed) for zone in after.zones]


def test_no_boost_takes_the_standing_one_away() -> None:
    host = stock.host()
    assert host.memory is not None
    boosted = tuple(
        replace(zone, boost=512, min=zone.min + 512, low=zone.low + 512, high=zone.high + 512)
        for zone in host.memory.zones
    )
    host = replace(host, memory=replace(host.memory, zones=boosted))
    after = with_settings(host, [put(ids.WATERMARK_BOOST, "0")]).memory
    assert after is not None
    assert after.watermark_boost_factor == 0
    plain = stock.host().memory
    assert plain is not None
    assert [zone.min for zone in after.zones] == [zone.min for zone in plain.zones]


def test_a_cap_is_doubled_and_locked_and_reaches_unseen_connections() -> None:
    host = stock.host()
    host = replace(host, users=(replace(host.users[0], connections=3),))
    after = with_settings(host, [put("cap:swap /dev/nbd0", "SO_SNDBUF=65536 SO_RCVBUF=32768")])
    sockets = after.users[0].sockets
    assert len(sockets) == 3
    assert {(one.sndbuf_bytes, one.rcvbuf_bytes, one.rcvbuf_locked) for one in sockets} == {
        (131072, 65536, True)
    }
    assert after.sockets[0].sndbuf_locked
    assert len(connections_of(after)) == 3


def test_a_cap_belongs_to_one_user() -> None:
    host = stock.host()
    other = replace(hosts.SWAP, name="swap /dev/nbd1", sockets=(stock.socket(7),))
    host = replace(host, users=(*host.users, other))
    after = with_settings(host, [put("cap:swap /dev/nbd0", "SO_SNDBUF=65536 SO_RCVBUF=32768")])
    assert after.users[1].sockets == other.sockets


def test_smaller_maxima_hold_for_connections_that_are_made_again() -> None:
    host = stock.host()
    large = replace(host.users[0].sockets[0], rcvbuf_bytes=6_000_000)
    host = replace(host, users=(replace(host.users[0], sockets=(large,)),))
    after = with_settings(host, [put(ids.TCP_RMEM, "4096 131072 262144")])
    assert connections_of(after)[0].rcvbuf_bytes == 262144


def test_a_share_of_tcp_mem_shows_as_forward_allocated() -> None:
    after = with_settings(stock.host(), [put("reserve-mem:swap /dev/nbd0", "SO_RESERVE_MEM=524288")])
    assert after.users[0].sockets[0].fwd_bytes == 524288


def test_queues_neighbours_and_polling() -> None:
    host = stock.host()
    host = replace(host, links=(replace(host.links[0], threaded=True),))
    after = with_settings(
        host,
        [
            put("queue.nr_requests:nbd0", "16"),
            put("queue.max_sectors_kb:nbd0", "128"),
            put(f"neigh.permanent:{hosts.SERVER}", "PERMANENT"),
            put("threaded:eth0", "0"),
        ],
    )
    queue = after.users[0].queue
    assert queue is not None
    assert (queue.nr_requests, queue.max_sectors_kib) == (16, 128)
    assert after.users[0].routes[0].neighbour_state == "PERMANENT"
    assert after.links[0].threaded is False


def test_nothing_is_changed_by_nothing() -> None:
    assert with_settings(stock.host(), ()) == stock.host()
