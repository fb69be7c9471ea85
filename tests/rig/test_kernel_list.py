"""What is listed of a kernel: whether it is here, and what it can be tried with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.rig import made_kernels

from tidegate.errors import BadInput
from tidegate.rig import kernel_list, kernels
from tidegate.rig.kernel_list import Abilities
from tidegate.rig.vmlinux import facts_directory


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/tidegate"


def made(folder: Path, name: str = "trixie-cloud", config: str | None = None) -> kernels.Kernel:
    """A kernel below a folder; its image is no real one, so that it cannot be unpacked."""
    vmlinuz = made_kernels.lay_out(folder / "root")
    if config is not None:
        (vmlinuz.parent / f"config-{made_kernels.RELEASE}").write_text(config)
    return kernels.Kernel(
        name=name,
        release=made_kernels.RELEASE,
        version="6.1.9-1",
        package_sha256="cd" * 32,
        vmlinuz=vmlinuz,
        vmlinuz_sha256=kernels.sha256(vmlinuz),
        modules=folder / "root/lib/modules" / made_kernels.RELEASE,
    )


def test_modules_and_configuration_say_what_can_be_tried(tmp_path: Path) -> None:
    config = "CONFIG_NFS_SWAP=y\nCONFIG_DEBUG_INFO_BTF=y\n"
    can = kernel_list.abilities(made(tmp_path, config=config))
    nics = ("e1000", "e1000-82544gc", "e1000-82545em")
    assert can == Abilities(btf=True, nics=nics, transports=("nbd", "nfs", "nfs-mount"))


def test_what_is_off_stands_there_as_a_comment(tmp_path: Path) -> None:
    can = kernel_list.abilities(made(tmp_path, config="# CONFIG_NFS_SWAP is not set\n"))
    assert (can.btf, can.transports) == (False, ("nbd", "nfs-mount"))


def test_without_a_configuration_btf_cannot_be_told(tmp_path: Path) -> None:
    assert kernel_list.abilities(made(tmp_path)).btf is None


@pytest.mark.parametrize("there", [True, False])
def test_the_image_is_looked_into_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    kernel = made(tmp_path, config="CONFIG_DEBUG_INFO_BTF=y\n" if not there else "")
    folder = facts_directory(kernel.vmlinuz_sha256)
    looked: list[str] = []

    def uncompressed(vmlinuz: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return vmlinuz

    def has_section(elf: Path, name: str) -> bool:
        looked.append(name)
        return there

    monkeypatch.setattr(kernel_list, "uncompressed", uncompressed)
    monkeypatch.setattr(kernel_list, "_has_section", has_section)
    assert [kernel_list.abilities(kernel).btf for _ in range(2)] == [there, there]
    assert looked == [".BTF"]


def test_all_names_are_listed_and_what_else_is_here(own_cache: Path) -> None:
    below = own_cache / "kernels"
    kernels.keep(below / "trixie-cloud", made(below / "trixie-cloud"))
    kernels.keep(below / "file-12", made(below / "file-12", "linux-image-made.deb"))
    listed = kernel_list.listed()
    assert [(row.name, row.cached, row.package) for row in listed.kernels] == [
        ("bookworm-cloud", False, "linux-image-cloud-amd64 (bookworm)"),
        ("bookworm-generic", False, "linux-image-amd64 (bookworm)"),
        ("trixie-cloud", True, "linux-image-cloud-amd64 (trixie)"),
        ("trixie-generic", False, "linux-image-amd64 (trixie)"),
        ("linux-image-made.deb", True, ""),
    ]
    here = listed.kernels[2]
    assert (here.release, here.version, here.package_sha256) == (made_kernels.RELEASE, "6.1.9-1", "cd" * 32)
    assert here.size_bytes >= len(made_kernels.image())
    assert listed.size_bytes == sum(row.size_bytes for row in listed.kernels)
    assert listed.kernels[0].can is None


def test_it_has_a_schema() -> None:
    schema = msgspec.json.schema(kernel_list.Kernels)
    assert schema["$defs"]["Kernels"]["properties"]["schema"]["default"] == "tidegate.kernels/1"


def test_a_section_is_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no ELF")
    with pytest.raises(BadInput):
        kernel_list._has_section(tmp_path / "text", ".BTF")
