"""A plan put in force where it belongs: on a stock kernel that swaps over NBD."""

from __future__ import annotations

import json
import re

import pytest

from tidegate.errors import Lacking
from tidegate.rig import guest, hosts, scenario

# Buffers follow tcp_rmem and tcp_wmem from the connection's start, so it is made again, as the file says.
SCRIPT = """\
python3 -m tidegate plan --as sysctl -o plan.conf || true
swapoff /dev/nbd0
nbd-client -d /dev/nbd0
sysctl -p plan.conf >loaded 2>&1 || echo failed >>loaded
sh -eux /job/setup
python3 -m tidegate check --json >after.json || true
python3 -m tidegate plan --as sysctl -o again.conf || true
"""


def settings(text: bytes) -> dict[str, str]:
    """The settings in a sysctl file."""
    lines = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.vm
def test_a_loaded_plan_leaves_nothing_that_its_file_could_cure() -> None:
    try:
        run = guest.run_in_guest(scenario.read(hosts.hosts_directory() / "virtio-nbd-swap.toml"), SCRIPT)
    except Lacking as trouble:
        pytest.skip(str(trouble))
    assert run.status == 0, run.console
    planned = settings(run.files["plan.conf"])
    assert "vm.min_free_kbytes" in planned
    loaded = run.files["loaded"].decode()
    assert not re.search("cannot|invalid|error|failed", loaded, re.IGNORECASE), loaded
    assert settings(run.files["loaded"]) == planned
    after = json.loads(run.files["after.json"])
    curable = {
        finding["id"]: sorted(planned.keys() & set(finding["cure"]["settings"]))
        for finding in after["findings"]
        if finding["state"] == "applies" and planned.keys() & set(finding["cure"]["settings"])
    }
    assert curable == {}
    assert settings(run.files["again.conf"]) == {}
