"""`tidegate kernels`: list, fetch, clean, without any archive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.rig import made_kernels

from tidegate.cli import COMMANDS, main
from tidegate.cli import kernels as command
from tidegate.errors import Exit
from tidegate.rig import kernels


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(COMMANDS, "kernels", command.SUMMARY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/tidegate"


@pytest.fixture
def cached(own_cache: Path) -> kernels.Kernel:
    """Debian's, as if it had been fetched."""
    folder = own_cache / "kernels/trixie-cloud"
    vmlinuz = made_kernels.lay_out(folder / "root")
    (vmlinuz.parent / f"config-{made_kernels.RELEASE}").write_text("CONFIG_DEBUG_INFO_BTF=y\n")
    kernel = kernels.Kernel(
        name="trixie-cloud",
        debian=kernels.Debian.TRIXIE,
        flavour=kernels.Flavour.CLOUD,
        release=made_kernels.RELEASE,
        version="6.1.9-1",
        package_sha256="0123456789abcdef" * 4,
        vmlinuz=vmlinuz,
        vmlinuz_sha256=kernels.sha256(vmlinuz),
        modules=folder / "root/lib/modules" / made_kernels.RELEASE,
    )
    return kernels.keep(folder, kernel)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["kernels", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_list(cached: kernels.Kernel, own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, err) == (Exit.OK, "")
    lines = out.splitlines()
    assert lines[0] == "bookworm-cloud  not fetched"
    assert lines[1] == "    linux-image-cloud-amd64 (bookworm); tidegate kernels fetch bookworm-cloud"
    at = next(number for number, line in enumerate(lines) if line.startswith("trixie-cloud"))
    assert lines[at].startswith(f"trixie-cloud  {made_kernels.RELEASE}  (6.1.9-1)  0 MiB")
    assert lines[at + 1] == (
        f"    linux-image-cloud-amd64 (trixie), sha256 0123456789ab, image {cached.vmlinuz_sha256[:12]}"
    )
    assert lines[at + 2] == "    with BTF; nbd nfs-mount"
    assert lines[at + 3] == "    NICs: e1000"
    assert lines[-1] == f"0 MiB in {own_cache}"


def test_the_list_as_json(cached: kernels.Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", "--json")
    told = json.loads(out)
    assert (code, told["schema"]) == (Exit.OK, "tidegate.kernels/1")
    assert [row["cached"] for row in told["kernels"]] == [False, False, True, False]
    assert told["kernels"][2]["can"]["nics"] == ["e1000", "e1000-82544gc", "e1000-82545em"]


def test_a_file_is_listed_after_it_was_fetched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vmlinuz = made_kernels.lay_out(tmp_path / "root")
    code, out, err = run(capsys, "fetch", str(vmlinuz))
    assert (code, err) == (Exit.OK, "")
    assert out.startswith(f"{vmlinuz.name}  {made_kernels.RELEASE}  ({made_kernels.RELEASE})")
    assert f"\n    no package, image {kernels.sha256(vmlinuz)[:12]}\n" in out
    assert "BTF: cannot be told" in out


def test_what_is_cached_is_not_fetched_again(
    cached: kernels.Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "fetch", "trixie-cloud", "--json")
    assert code == Exit.OK
    assert [row["name"] for row in json.loads(out)["kernels"]] == ["trixie-cloud"]


def test_refresh_fetches_anew(
    cached: kernels.Kernel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(*which: object, refresh: bool = False) -> kernels.Kernel:
        asked.append((*which, refresh))
        return cached

    monkeypatch.setattr(kernels, "fetch", fetch)
    assert run(capsys, "fetch", "trixie-cloud", "--refresh")[0] == Exit.OK
    assert asked == [(kernels.Debian.TRIXIE, kernels.Flavour.CLOUD, True)]


def test_clean_says_how_much_it_was(cached: kernels.Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "clean", "trixie-cloud")
    assert (code, out) == (Exit.OK, "removed trixie-cloud: 0 MiB\n")
    assert kernels.cached() == ()
    assert run(capsys, "clean")[:2] == (Exit.OK, "nothing was cached\n")


def test_clean_as_json(cached: kernels.Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(run(capsys, "clean", "--json")[1])
    assert told["schema"] == "tidegate.kernels-cleaned/1"
    assert told["freed_bytes"] == sum(told["kernels"].values()) > 0
    assert list(told["kernels"]) == ["trixie-cloud"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fetch"], "kernels: fetch needs a name: bookworm-cloud, "),
        (["fetch", "trixie"], "no kernel 'trixie'; there are "),
        (["clean", "trixie-cloud"], "no cached kernel 'trixie-cloud'; cached are: none"),
        (["list", "trixie-cloud"], "kernels: list takes no name"),
        (["--refresh"], "kernels: --refresh goes with fetch"),
        (["remove"], "kernels: argument "),
    ],
)
def test_wrong_words_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (Exit.USAGE, "")
    assert err.startswith(f"tidegate: {said}")
    assert err.count("\n") == 1
