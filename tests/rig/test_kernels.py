"""Kernels: which package, which modules in which order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.rig import made_kernels

from tidegate.errors import Lacking, Usage
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


# The cache.


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/tidegate"


def made(name: str) -> kernels.Kernel:
    """A kernel in the cache, as if it had been fetched."""
    folder = kernels.kernels_directory() / name
    vmlinuz = made_kernels.lay_out(folder / "root")
    debian, flavour = kernels.NAMED[name]
    kernel = kernels.Kernel(
        name=name,
        debian=debian,
        flavour=flavour,
        release=made_kernels.RELEASE,
        version="6.1.9-1",
        package_sha256="ab" * 32,
        vmlinuz=vmlinuz,
        vmlinuz_sha256=kernels.sha256(vmlinuz),
        modules=folder / "root/lib/modules" / made_kernels.RELEASE,
    )
    return kernels.keep(folder, kernel)


def test_a_name_leads_to_the_cached_kernel(own_cache: Path) -> None:
    one = made("trixie-cloud")
    assert kernels.resolve("trixie-cloud") == one
    assert kernels.fetch(kernels.Debian.TRIXIE, kernels.Flavour.CLOUD) == one
    assert kernels.folder_of(one) == own_cache / "kernels/trixie-cloud"


def test_a_kernel_that_was_noted_without_a_name_has_that_of_its_folder(own_cache: Path) -> None:
    made("trixie-cloud")
    note = own_cache / "kernels/trixie-cloud/kernel.json"
    told = json.loads(note.read_text())
    del told["name"]
    note.write_text(json.dumps(told))
    assert [one.name for one in kernels.cached()] == ["trixie-cloud"]


def test_a_kernel_whose_image_changed_is_not_cached(own_cache: Path) -> None:
    one = made("trixie-cloud")
    one.vmlinuz.write_bytes(b"other")
    assert kernels.cached() == ()


def test_all_is_removed_but_the_locks(own_cache: Path) -> None:
    one, _ = made("trixie-cloud"), made("bookworm-cloud")
    facts = own_cache / "kernel-facts" / one.vmlinuz_sha256
    facts.mkdir(parents=True)
    (facts / "vmlinux").write_bytes(bytes(100_000))
    (own_cache / "agents").mkdir()
    (own_cache / "agents/agent").write_bytes(b"stays")
    freed = kernels.clean()
    assert list(freed) == ["bookworm-cloud", "trixie-cloud"]
    assert max(freed.values()) > 100_000
    assert kernels.cached() == ()
    left = sorted(path.name for path in own_cache.rglob("*") if path.is_file())
    assert left == [".lock", ".lock", ".lock", "agent"]
    assert kernels.clean() == {}


def test_one_is_removed_by_name(own_cache: Path) -> None:
    made("trixie-cloud"), made("bookworm-cloud")
    assert list(kernels.clean(["trixie-cloud"])) == ["trixie-cloud"]
    assert [one.name for one in kernels.cached()] == ["bookworm-cloud"]


def test_what_an_interrupted_fetch_left_is_removed_too(own_cache: Path) -> None:
    (own_cache / "kernels/trixie-cloud").mkdir(parents=True)
    (own_cache / "kernels/trixie-cloud/linux-image.deb").write_bytes(bytes(5000))
    assert kernels.clean() == {"other files": 8192}


@pytest.mark.parametrize("names", [["trixie-generic"], ["trixie-cloud", "x"], ["../../x"]])
def test_a_name_that_is_not_cached_removes_nothing(own_cache: Path, names: list[str]) -> None:
    made("trixie-cloud")
    with pytest.raises(Usage, match=r"no cached kernel '.*'; cached are: trixie-cloud"):
        kernels.clean(names)
    assert len(kernels.cached()) == 1
