"""Kernels from files of this machine: packages are unpacked and cached, images stay, anything else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.rig import made_kernels

from tidegate.errors import BadInput, Lacking, Usage
from tidegate.rig import kernel_files, kernels, tools

needs_dpkg = pytest.mark.skipif(
    bool(tools.missing(["dpkg-deb", "depmod"])), reason="no dpkg-deb or depmod here"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/tidegate"


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No program is found, but those that a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(tools, "_SBIN", ())
    return folder


@needs_dpkg
def test_a_deb_is_unpacked_once_and_cached(tmp_path: Path, own_cache: Path) -> None:
    made = made_kernels.deb(tmp_path)
    one = kernels.resolve(str(made))
    assert (one.name, one.release, one.version) == (made.name, made_kernels.RELEASE, "6.1.9-1")
    assert (one.debian, one.package_sha256) == (None, kernels.sha256(made))
    assert one.vmlinuz.is_relative_to(own_cache)
    assert {"e1000", "nbd"} <= kernels.all_modules(one)
    at = one.vmlinuz.stat().st_mtime_ns, (one.vmlinuz.parents[2] / "kernel.json").stat().st_mtime_ns
    again = kernels.resolve(str(made))
    assert again == one
    assert at == (one.vmlinuz.stat().st_mtime_ns, (one.vmlinuz.parents[2] / "kernel.json").stat().st_mtime_ns)
    assert kernels.cached() == (one,)


@needs_dpkg
def test_a_deb_that_is_cut_off(tmp_path: Path) -> None:
    made = made_kernels.deb(tmp_path)
    made.write_bytes(made.read_bytes()[:-100])
    with pytest.raises(BadInput, match="expected a whole Debian package") as caught:
        kernels.resolve(str(made))
    assert "\n" not in str(caught.value)
    assert kernels.cached() == ()


@needs_dpkg
def test_a_deb_without_image(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"found no boot/vmlinuz-\*"):
        kernels.resolve(str(made_kernels.deb(tmp_path, boot=False)))
    assert kernels.cached() == ()
    assert kernels.clean() == {}, "nothing of it is left"


@needs_dpkg
def test_a_deb_whose_modules_are_in_another_package(tmp_path: Path) -> None:
    with pytest.raises(Lacking, match=f"has no modules of {made_kernels.RELEASE}"):
        kernels.resolve(str(made_kernels.deb(tmp_path, modules=False)))


def test_without_dpkg_the_package_is_named(tmp_path: Path, empty_path: Path) -> None:
    deb = tmp_path / "x.deb"
    deb.write_bytes(b"!<arch>\ndebian-binary   ")
    with pytest.raises(Lacking, match="expected Debian's package dpkg"):
        kernels.resolve(str(deb))


def test_without_a_program_for_rpms_the_package_is_named(tmp_path: Path, empty_path: Path) -> None:
    rpm = tmp_path / "x.rpm"
    rpm.write_bytes(b"\xed\xab\xee\xdb" + bytes(96))
    with pytest.raises(Lacking, match=r"libarchive-tools \(bsdtar\)"):
        kernels.resolve(str(rpm))


def test_an_rpm_has_its_image_beside_its_modules(
    tmp_path: Path, empty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_kernels.lay_out(tmp_path / "tree", lib="usr/lib", boot=False)
    tar = empty_path / "bsdtar"  # -x -f RPM -C ROOT
    tar.write_text(f'#!/bin/sh\nexec /bin/cp -r {tmp_path}/tree/usr "$5"\n')
    depmod = empty_path / "depmod"
    depmod.write_text("#!/bin/sh\n")
    for program in (tar, depmod):
        program.chmod(0o755)
    rpm = tmp_path / "kernel.rpm"
    rpm.write_bytes(b"\xed\xab\xee\xdb" + bytes(96))
    one = kernels.resolve(str(rpm))
    assert (one.name, one.release, one.version) == ("kernel.rpm", made_kernels.RELEASE, made_kernels.RELEASE)
    assert one.vmlinuz.name == "vmlinuz"
    assert one.modules.name == made_kernels.RELEASE
    assert "nbd" in kernels.all_modules(one)


@pytest.mark.parametrize("lib", ["lib", "usr/lib"])
@pytest.mark.parametrize("boot", [True, False])
def test_an_image_finds_its_modules_beside_it(tmp_path: Path, lib: str, boot: bool, own_cache: Path) -> None:
    vmlinuz = made_kernels.lay_out(tmp_path / "root", lib=lib, boot=boot)
    one = kernels.resolve(str(vmlinuz))
    assert (one.release, one.package_sha256) == (made_kernels.RELEASE, "")
    assert one.vmlinuz == vmlinuz
    assert one.modules == tmp_path / "root" / lib / "modules" / made_kernels.RELEASE
    assert kernels.folder_of(one) is None
    assert not own_cache.exists()


def test_an_image_finds_its_modules_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_kernels.lay_out(tmp_path / "system")
    monkeypatch.setattr(kernel_files, "SYSTEM_MODULES", (tmp_path / "system/lib/modules",))
    (tmp_path / "bzImage").write_bytes(made_kernels.image())
    assert kernels.resolve(str(tmp_path / "bzImage")).modules.is_relative_to(tmp_path / "system")


def test_an_image_without_modules(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_bytes(made_kernels.image())
    with pytest.raises(
        Lacking, match=f"found no modules.dep of {made_kernels.RELEASE} in lib/modules beside it"
    ):
        kernels.resolve(str(tmp_path / "bzImage"))


@pytest.mark.parametrize("release", ["", "../../x"])
def test_an_image_that_does_not_tell_its_release(tmp_path: Path, release: str) -> None:
    (tmp_path / "bzImage").write_bytes(made_kernels.image(release))
    with pytest.raises(BadInput, match="found no kernel version"):
        kernels.resolve(str(tmp_path / "bzImage"))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(b"PK\3\4 zip")
    with pytest.raises(BadInput, match=r"found a file that begins with .*, expected a \.deb"):
        kernels.resolve(str(tmp_path / "x.deb"))
    with pytest.raises(BadInput, match="found Is a directory"):
        kernels.resolve(str(tmp_path))
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(BadInput, match="begins with b''"):
        kernels.resolve(str(tmp_path / "empty"))


def test_a_name_that_is_none() -> None:
    with pytest.raises(
        Usage, match=r"no kernel 'trixie'; there are bookworm-cloud, .*, or the path of a \.deb"
    ):
        kernels.resolve("trixie")
