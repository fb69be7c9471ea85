"""NICs: what QEMU has, what a kernel can drive."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from tidegate.errors import Unsupported
from tidegate.rig import accelerator, initramfs, kernels, nics, scenario, servers, tools
from tidegate.rig.initramfs import Entry

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
    assert "usb-net" not in nics.drivable(frozenset({"usbnet", "cdc_ether"}))
    assert "usb-net" in nics.drivable(frozenset({"usbnet", "cdc_ether", "uhci_hcd"}))


def test_every_model_of_a_scenario_is_in_the_table() -> None:
    assert set(scenario.NICS) <= set(nics.MODELS)


@pytest.mark.skipif(bool(tools.missing(["qemu-system-x86_64"])), reason="no QEMU here")
def test_the_emulator_of_this_machine_has_the_usual_ones() -> None:
    assert {"virtio-net-pci", "e1000", "vmxnet3", "rtl8139"} <= set(nics.emulated())


DRIVERS = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t sysfs sysfs /sys
for module in $($b cat /modules/order); do $b insmod /modules/$module || echo "lost: $module"; done
tries=0
while [ $tries -lt 50 ] && [ ! -e /sys/class/net/usb0 ]; do $b usleep 200000; tries=$((tries + 1)); done
for nic in /sys/class/net/*/device/driver/module; do echo "module: $($b basename $($b readlink $nic))"; done
$b poweroff -f
"""


@pytest.mark.vm
@pytest.mark.slow
def test_each_model_finds_its_driver_in_a_stock_kernel(tmp_path: Path) -> None:
    """All models of this QEMU at once in one guest, and the modules of the table, in its order."""
    if tools.missing(["qemu-system-x86_64", "busybox"]):
        pytest.skip("no QEMU or no busybox here")
    kernel = next((one for one in kernels.cached() if one.name.endswith("generic")), None)
    if kernel is None:
        pytest.skip("no generic kernel is cached")
    there = [nics.MODELS[name] for name in nics.emulated()]
    # One of each driver: a PCI bus has no room for all names of e100.
    chosen = list({nic.driver: nic for nic in reversed(there)}.values())
    (tmp_path / "initramfs").write_bytes(drivers_initramfs(kernel, chosen))
    words = accelerator.boot_words(accelerator.Accel.TCG, kernel.vmlinuz, tmp_path / "initramfs")
    words[words.index("-m") + 1] = "256M"
    for nic in chosen:
        words += [*nic.controller, "-device", nic.model + ("" if nic.controller else ",romfile=")]
    with servers.child(words, log=tmp_path / "console") as process:
        assert process.wait(timeout=accelerator.DEADLINE_S) == 0
    console = (tmp_path / "console").read_text(errors="replace")
    assert "lost:" not in console
    found = set(re.findall(r"^module: (\S+)", console, re.MULTILINE))
    # The driver of a USB NIC is the one that knows its class; usbnet below it has the receive buffers.
    assert found == {"cdc_ether" if nic.driver == "usbnet" else nic.driver for nic in chosen}


def drivers_initramfs(kernel: kernels.Kernel, chosen: list[nics.Nic]) -> bytes:
    folder = Entry(mode=stat.S_IFDIR | 0o755)
    entries = dict.fromkeys(("bin", "dev", "sys", "modules"), folder)
    entries["dev/console"] = Entry(mode=stat.S_IFCHR | 0o600, device=(5, 1))
    entries["bin/busybox"] = Entry(mode=stat.S_IFREG | 0o755, data=tools.program("busybox").read_bytes())
    entries["init"] = Entry(mode=stat.S_IFREG | 0o755, data=DRIVERS.encode())
    order = []
    names = [module for nic in chosen for module in nic.modules]
    for path in kernels.needed_modules((kernel.modules / "modules.dep").read_text(), names):
        order.append(kernels.module_name(path))
        entries[f"modules/{order[-1]}"] = Entry(
            mode=stat.S_IFREG | 0o644, data=initramfs.module_bytes(kernel.modules / path)
        )
    entries["modules/order"] = Entry(mode=stat.S_IFREG | 0o644, data="\n".join(order).encode())
    return initramfs.cpio(entries)


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
