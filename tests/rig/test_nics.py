"""NICs: what QEMU has, what a kernel can drive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.errors import Unsupported
from tidegate.rig import kernels, nics, scenario, tools

HELP = """\
Controller/Bridge/Hub devices:
name "i82801b11-bridge", bus PCI

Network devices:
name "e1000", bus PCI, alias "e1000-82540em", desc "Intel Gigabit Ethernet"
name "rocker", bus PCI, desc "Rocker Switch"
name "usb-net", bus usb-bus
name "virtio-net-pci", bus PCI, alias "virtio-net"
"""


def test_models_of_the_table_only() -> None:
    assert nics.emulated_in(HELP) == ("virtio-net-pci", "e1000", "usb-net")
    assert nics.emulated_in("") == ()


def test_a_kernel_drives_a_nic_when_it_has_all_its_modules() -> None:
    cloud = frozenset({"virtio_pci", "virtio_net", "vmxnet3"})
    assert nics.drivable(cloud) == ("virtio-net-pci", "vmxnet3")
    assert "usb-net" not in nics.drivable(frozenset({"usbnet", "cdc_ether", "rndis_host"}))
    assert "usb-net" in nics.drivable(frozenset({"usbnet", "cdc_ether", "rndis_host", "uhci_hcd"}))


def test_every_model_of_a_scenario_is_in_the_table() -> None:
    assert set(scenario.NICS) <= set(nics.MODELS)


@pytest.mark.skipif(bool(tools.missing(["qemu-system-x86_64"])), reason="no QEMU here")
def test_the_emulator_of_this_machine_has_the_usual_ones() -> None:
    assert {"virtio-net-pci", "e1000", "vmxnet3", "rtl8139"} <= set(nics.emulated())


def test_what_is_lacking_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules.dep").write_text("kernel/e1000.ko.xz:\nkernel/igb.ko.xz: kernel/dca.ko.xz\n")
    kernel = kernels.Kernel(
        name="k",
        release="6",
        version="6",
        package_sha256="",
        vmlinuz=tmp_path,
        vmlinuz_sha256="",
        modules=tmp_path,
    )
    monkeypatch.setattr(nics, "emulated", lambda: nics.emulated_in(HELP))
    assert nics.check_nic(kernel, "e1000").driver == "e1000"
    with pytest.raises(Unsupported, match="k: has no vmxnet3, the driver of QEMU's vmxnet3"):
        nics.check_nic(kernel, "vmxnet3")
    with pytest.raises(
        Unsupported, match="qemu-system-x86_64: has no igb, expected one of virtio-net-pci, e1000"
    ):
        nics.check_nic(kernel, "igb")
    with pytest.raises(Unsupported, match="no NIC 'mlx5' is known here"):
        nics.check_nic(kernel, "mlx5")
