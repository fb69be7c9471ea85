"""The script of a plan, run and undone on a stock kernel that swaps over NBD."""

from __future__ import annotations

import pytest

from tidegate.errors import Lacking
from tidegate.rig import guest, hosts, scenario

SCRIPT = """\
python3 -m tidegate plan --as script -o plan.sh || true
sh plan.sh show >before
sh plan.sh >applied 2>&1; echo "exit $?" >>applied
sh plan.sh show >during
sh plan.sh >again 2>&1; echo "exit $?" >>again
sh plan.sh undo >undone 2>&1; echo "exit $?" >>undone
sh plan.sh show >after
"""


def values(text: bytes) -> dict[str, tuple[str, str]]:
    """What is and what should be, by path, from `show`: `PATH: VALUE (plan: VALUE)`."""
    found = {}
    for line in text.decode().splitlines():
        path, _, rest = line.partition(": ")
        now, _, wanted = rest.partition(" (plan: ")
        found[path] = (now, wanted.removesuffix(")"))
    return found


@pytest.mark.vm
def test_the_script_sets_everything_and_takes_everything_back() -> None:
    try:
        run = guest.run_in_guest(scenario.read(hosts.hosts_directory() / "virtio-nbd-swap.toml"), SCRIPT)
    except Lacking as trouble:
        pytest.skip(str(trouble))
    assert run.status == 0, run.console
    before, during, after = (values(run.files[name]) for name in ("before", "during", "after"))
    assert run.files["applied"].decode().endswith("exit 0\n"), run.files["applied"].decode()
    assert "/proc/sys/vm/min_free_kbytes" in before
    assert all(now == wanted or now.endswith(f" {wanted}") for now, wanted in during.values()), during
    assert "already in force" in run.files["again"].decode()
    assert run.files["undone"].decode().endswith("exit 0\n"), run.files["undone"].decode()
    files = [path for path in before if path.startswith("/")]
    assert {path: after[path] for path in files} == {path: before[path] for path in files}
    assert not any(now.endswith("PERMANENT") for now, _ in after.values())
