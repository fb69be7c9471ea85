"""NICs that a guest can have: QEMU's models, the kernel's drivers for them, and which of both are here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tidegate.errors import Unsupported
from tidegate.rig.kernels import Kernel, all_modules
from tidegate.rig.tools import call


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """One of QEMU's models."""

    model: str  # QEMU's name
    modules: tuple[str, ...]  # of the kernel, all of them; the last is the driver
    controller: tuple[str, ...] = ()  # QEMU's words for the bus that it hangs on, before the device

    @property
    def driver(self) -> str:
        """The module that decides what happens to a receive buffer."""
        return self.modules[-1]


_E100 = "i82559c i82550 i82551 i82557a i82557b i82557c i82558a i82558b i82559a i82559b i82559er i82562 i82801"

# In the order of what says most about a kernel's receive path. rtl8139 is a C+ chip in QEMU (revision 0x20), which
# 8139too leaves to 8139cp (rtl8139_init_one). usb-net offers RNDIS first and CDC Ethernet second; the kernel prefers
# the second, whose class is a standard one (usb_choose_configuration).
NICS = (
    Nic(model="virtio-net-pci", modules=("virtio_pci", "virtio_net")),
    Nic(model="e1000", modules=("e1000",)),
    Nic(model="e1000-82544gc", modules=("e1000",)),
    Nic(model="e1000-82545em", modules=("e1000",)),
    Nic(model="e1000e", modules=("e1000e",)),
    Nic(model="igb", modules=("igb",)),  # QEMU 8.0
    Nic(model="vmxnet3", modules=("vmxnet3",)),
    Nic(model="pcnet", modules=("pcnet32",)),
    Nic(model="rtl8139", modules=("8139cp",)),
    *(Nic(model=model, modules=("e100",)) for model in _E100.split()),
    Nic(model="tulip", modules=("tulip",)),
    Nic(model="ne2k_pci", modules=("ne2k_pci",)),
    Nic(
        model="usb-net",
        modules=("uhci_hcd", "cdc_ether", "usbnet"),
        controller=("-device", "piix3-usb-uhci,id=usb"),
    ),
)
MODELS = {nic.model: nic for nic in NICS}


def nic_of(model: str) -> Nic:
    """The model by QEMU's name. Unsupported when it is not in the table."""
    if model not in MODELS:
        raise Unsupported(f"no NIC {model!r} is known here, expected one of {', '.join(MODELS)}")
    return MODELS[model]


def drivable(modules: frozenset[str]) -> tuple[str, ...]:
    """The models for which a kernel with these modules has all that is needed."""
    return tuple(nic.model for nic in NICS if modules.issuperset(nic.modules))


def emulated() -> tuple[str, ...]:
    """The models of the table that this machine's QEMU has. Lacking without QEMU."""
    return emulated_in(call(["qemu-system-x86_64", "-device", "help"], timeout_s=60))


def emulated_in(device_help: str) -> tuple[str, ...]:
    """The models of the table in what `qemu-system-x86_64 -device help` says."""
    there = set(re.findall(r'^name "([^"]+)"', device_help, re.MULTILINE))
    return tuple(nic.model for nic in NICS if nic.model in there)


def check_nic(kernel: Kernel, model: str) -> Nic:
    """The model, when the kernel can drive it and QEMU has it; Unsupported says what is lacking."""
    nic = nic_of(model)
    lacking = [name for name in nic.modules if name not in all_modules(kernel)]
    if lacking:
        raise Unsupported(
            f"{kernel.name or kernel.release}: has no {lacking[-1]}, the driver of QEMU's {model}"
        )
    if model not in (there := emulated()):
        raise Unsupported(f"qemu-system-x86_64: has no {model}, expected one of {', '.join(there)}")
    return nic
