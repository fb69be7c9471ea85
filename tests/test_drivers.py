"""The table of drivers: complete, consistent in itself, and silent about what is not in it."""

from __future__ import annotations

import pytest

from tidegate.drivers import (
    DRIVERS,
    Delivery,
    Driver,
    Failure,
    Refill,
    Refiller,
    Shape,
    Xdp,
    driver,
    shape_of,
)

# Every driver that the source was read for, singly or as one of a group.
READ = [
    "virtio_net", "e1000", "e1000e", "igb", "igc", "ixgbe", "i40e", "ice", "mlx4_en", "mlx5_core", "bnxt_en",
    "tg3",
    "r8169", "8139cp", "8139too", "pcnet32", "vmxnet3", "ena", "gve", "hv_netvsc", "veth", "tun",
    # page_pool
    "vif", "st_gmac", "fec", "cpsw", "mvneta", "mvpp2", "mana", "am65-cpsw-nuss", "rtase",
    # __netdev_alloc_skb, and USB
    "bcmgenet", "sky2", "forcedeth", "alx", "e100", "usbnet", "r8152",
]  # fmt: skip


def known(name: str, kernel: tuple[int, int, int] | None = None) -> Driver:
    row = driver(name, kernel)
    assert row is not None
    return row


def test_every_driver_that_was_read_has_a_row_and_no_other() -> None:
    assert sorted(row.name for row in DRIVERS) == sorted(READ)


def test_names_are_unique() -> None:
    names = [name for row in DRIVERS for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["", "iwlwifi", "VIRTIO_NET", "e1000x", "bonding"])
def test_what_is_not_in_the_table_is_not_known(name: str) -> None:
    assert driver(name) is None


@pytest.mark.parametrize(
    ("alias", "name"), [("mlx4_core", "mlx4_en"), ("cdc_ether", "usbnet"), ("stmmac", "st_gmac")]
)
def test_aliases(alias: str, name: str) -> None:
    assert known(alias) is known(name)


@pytest.mark.parametrize("row", DRIVERS, ids=lambda row: row.name)
def test_a_row_is_consistent(row: Driver) -> None:
    assert row.functions
    assert row.on_failure_text
    assert row.pinned_bytes >= row.slot_bytes or row.refill is Refill.KEY
    assert row.sharers >= 1
    assert row.sharers * 1024 <= row.pinned_bytes
    if row.on_failure in (Failure.RECYCLE, Failure.DROP):
        assert row.refiller is Refiller.NOT_NEEDED
    else:
        assert row.refiller is not Refiller.NOT_NEEDED
    if row.ring_default is not None and row.ring_max is not None:
        assert row.ring_default <= row.ring_max
    # Class D takes nothing from the reserve for a full frame; the others take something.
    assert (row.shape is Shape.NONE) == (row.refill in (Refill.NEVER, Refill.INHERITED))
    if row.slot_bytes_xdp is not None:
        assert row.xdp is not Xdp.NO
    if row.pinned_bytes_order0 is not None:
        assert row.pinned_bytes_order0 < row.pinned_bytes
        assert row.sharers_order0 < row.sharers


def test_virtio_loses_its_worker_in_6_19() -> None:
    assert known("virtio_net").refiller is Refiller.WORKER
    assert known("virtio_net", (6, 12, 117)).refiller is Refiller.WORKER
    later = known("virtio_net", (6, 19, 0))
    assert later.refiller is Refiller.NEXT_POLL
    assert later.refill is Refill.NEVER  # the floor stays
    assert "fcdef3bcbb2c" in later.on_failure_text
    assert known("virtio_net", (7, 0, 1)).refiller is Refiller.NEXT_POLL


@pytest.mark.parametrize(
    ("refill", "names"),
    [
        (Refill.ALWAYS, {"igb", "igc", "ixgbe", "i40e", "ice", "mlx4_en", "ena"}),
        (
            Refill.KEY,
            {
                "e1000e", "r8169", "8139cp", "8139too", "pcnet32", "vmxnet3", "hv_netvsc", "bcmgenet", "sky2",
                "forcedeth", "alx", "e100", "usbnet",
            },
        ),
        (Refill.INHERITED, {"veth", "tun"}),
    ],
)  # fmt: skip
def test_who_refills_from_the_reserve(refill: Refill, names: set[str]) -> None:
    assert {row.name for row in DRIVERS if row.refill is refill} == names


def test_the_models_that_lived_through_the_runs_recycle_and_refill_from_the_reserve() -> None:
    for name in ("pcnet32", "vmxnet3", "8139cp"):
        assert known(name).refill is Refill.KEY
        assert known(name).on_failure is Failure.RECYCLE
    for name in ("virtio_net", "e1000"):
        assert known(name).refill is Refill.NEVER
        assert known(name).on_failure in (Failure.STOPS, Failure.EMPTY_SLOT)


def test_jumbo_frames_of_class_a() -> None:
    assert shape_of(known("e1000e"), 1500) is Shape.SLICES
    assert shape_of(known("e1000e"), 9000) is Shape.JUMBO
    assert shape_of(known("ice"), 9000) is Shape.HALVES
    assert shape_of(known("e1000e"), None) is Shape.SLICES


def test_delivery() -> None:
    assert known("veth").delivery is Delivery.NETIF_RX
    assert known("igb").delivery is Delivery.NAPI
