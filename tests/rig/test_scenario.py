"""Scenarios: those of the tree are sound, others are refused by file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.errors import BadInput
from tidegate.rig import hosts, scenario

LEAST = 'about = "a"\ndebian = "trixie"\nflavour = "cloud"\nmemory_mib = 256\n'


@pytest.mark.parametrize("name", hosts.names(hosts.hosts_directory()))
def test_every_scenario_of_the_tree_is_sound(name: str) -> None:
    read = scenario.read(hosts.hosts_directory() / f"{name}.toml")
    assert read.about.endswith(".")


def test_both_kernels_are_among_them() -> None:
    folder = hosts.hosts_directory()
    read = [scenario.read(folder / f"{name}.toml") for name in hosts.names(folder)]
    assert {one.debian for one in read} == {"bookworm", "trixie"}
    assert len(read) >= 7


def test_the_least_scenario_has_defaults() -> None:
    read = scenario.parse(LEAST, "x.toml")
    assert (read.cpus, read.nic, read.servers, read.peer) == (1, "virtio-net-pci", (), None)


@pytest.mark.parametrize(
    ("more", "place", "expected"),
    [
        ("memory = 3", "", "memory"),
        ('nic = "mlx5"', "nic", "virtio-net-pci"),
        ("cpus = 0", "cpus", "1 to 16"),
        ("numa_nodes = 2", "cpus", "at least one a node"),
        ('[[servers]]\nkind = "afs"\nsize_mib = 1', "$.servers[0].kind", "afs"),
        (
            '[[servers]]\nkind = "nbd"\nsize_mib = 1\n[[servers]]\nkind = "nbd"\nsize_mib = 1',
            "servers",
            "one of each",
        ),
        ('[[disks]]\nname = "../x"\nsize_mib = 1', "disks", "short name"),
        ("cpus =", "", "TOML"),
    ],
)
def test_a_bad_scenario_is_one_line_with_its_place(more: str, place: str, expected: str) -> None:
    with pytest.raises(BadInput) as caught:
        scenario.parse(LEAST + more, "x.toml")
    assert str(caught.value).startswith("x.toml")
    assert place == caught.value.place
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.toml"):
        scenario.read(tmp_path / "none.toml")
