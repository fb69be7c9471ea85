"""Kernels: which package, which modules in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.errors import Lacking
from tidegate.rig import kernels

MODULES_DEP = """\
kernel/block/virtio_blk.ko.xz: kernel/virtio/virtio.ko.xz kernel/virtio/virtio_ring.ko.xz
kernel/virtio/virtio.ko.xz: kernel/virtio/virtio_ring.ko.xz
kernel/virtio/virtio_ring.ko.xz:
kernel/fs/squashfs/squashfs.ko.xz:
kernel/drivers/nvme/target/nvmet-tcp.ko: kernel/drivers/nvme/target/nvmet.ko
kernel/drivers/nvme/target/nvmet.ko:
"""


def test_needs_come_before_what_needs_them() -> None:
    paths = kernels.needed_modules(MODULES_DEP, ["virtio_blk"])
    assert [kernels.module_name(path) for path in paths] == ["virtio_ring", "virtio", "virtio_blk"]


def test_each_module_once_whoever_needs_it() -> None:
    paths = kernels.needed_modules(MODULES_DEP, ["virtio", "virtio_blk", "squashfs"])
    names = [kernels.module_name(path) for path in paths]
    assert names == ["virtio_ring", "virtio", "virtio_blk", "squashfs"]


def test_dashes_and_underscores_name_the_same_module() -> None:
    assert len(kernels.needed_modules(MODULES_DEP, ["nvmet-tcp"])) == 2
    assert len(kernels.needed_modules(MODULES_DEP, ["nvmet_tcp"])) == 2


def test_a_built_in_module_is_left_out() -> None:
    assert kernels.needed_modules(MODULES_DEP, ["virtio_pci"]) == []


def test_the_meta_package_leads_to_one_version() -> None:
    depends = "Depends: linux-image-6.12.117+deb13-cloud-amd64 (= 6.12.117-1)"
    assert kernels.real_package(depends) == "linux-image-6.12.117+deb13-cloud-amd64"


def test_unsigned_and_debug_images_are_not_it() -> None:
    image = "linux-image-6.1.0-50-amd64"
    assert kernels.real_package(f"Depends: {image}-dbg, {image}-unsigned | {image}") == image


def test_a_meta_package_without_kernel_is_said() -> None:
    with pytest.raises(Lacking, match="expected a linux-image"):
        kernels.real_package("Depends: firmware-linux")


def test_the_client_stays_in_its_folder() -> None:
    options = kernels.client_options(Path("/cache"), "")
    for key in ("Dir::Etc::sourcelist", "Dir::State", "Dir::Cache"):
        (value,) = [option.partition("=")[2] for option in options if option.startswith(f"-o{key}=")]
        assert value.startswith("/cache/")
    assert "-oDir::Etc::sourceparts=/dev/null" in options


def test_the_mirror_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.MIRROR_VARIABLE, "file:/srv/debian")
    assert kernels.debian_mirror() == "file:/srv/debian"
    line = kernels.source_line(kernels.Debian.TRIXIE, "file:/srv/debian", Path("/keys"))
    assert line == "deb [signed-by=/keys] file:/srv/debian trixie main\n"
