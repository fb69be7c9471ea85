"""The script is run, with every shell that is here, on a tree that stands in for /."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.plan import stock

from tidegate.plan import solve
from tidegate.report.plan_formats import plan_file
from tidegate.result import Plan, Setting

SHELLS = [words for words in (["busybox", "sh"], ["dash"], ["bash", "--posix"]) if shutil.which(words[0])]
MIN_FREE = "/proc/sys/vm/min_free_kbytes"

# A neighbour table of one entry in a file: "ADDRESS lladdr HARDWARE STATE".
IP = """\
#!/bin/sh
table=$TIDEGATE_ROOT/neighbours
case ${2-$1} in
-V) echo "ip utility, iproute2-6.1.0" ;;
show) cat "$table" ;;
replace)
    [ -e "$TIDEGATE_ROOT/no-neighbours" ] && exit 2
    printf '%s lladdr %s %s\\n' "$3" "$5" "$(printf %s "$9" | tr a-z A-Z)" >"$table" ;;
esac
"""


@dataclass
class Machine:
    """A tree with the files that a plan is about, and the script."""

    root: Path
    plan: Plan
    shell: list[str]

    def environment(self, wait: int) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "TIDEGATE_ROOT": str(self.root),
            "TIDEGATE_WAIT": str(wait),
            "TIDEGATE_IP": f"{self.root}/ip",
        }

    def run(self, *words: str, wait: int = 0, timeout: int = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.shell, str(self.root / "plan.sh"), *words],
            env=self.environment(wait),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def file(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def values(self) -> dict[str, str]:
        return {one.path: self.value(one) for one in self.plan.settings}

    def value(self, one: Setting) -> str:
        if one.path.startswith("neigh:"):
            return self.file("neighbours").read_text().split()[-1]
        return " ".join(self.file(one.path).read_text().split())

    def memory(self, free: int, high: int) -> None:
        self.file("/proc/zoneinfo").write_text(
            f"Node 0, zone    DMA32\n  pages free     {free}\n        boost    0\n        min      10\n"
            f"        low      12\n        high     {high}\n  pagesets\n    cpu: 0\n              high:  999999\n"
        )


def old(plan: Plan) -> dict[str, str]:
    return {one.path: one.old or "" for one in plan.settings}


def planned(plan: Plan) -> dict[str, str]:
    return {one.path: one.new for one in plan.settings}


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    host = stock.host()
    host = replace(host, links=(replace(host.links[0], threaded=True),))
    plan = solve(host, format="script")
    here = Machine(root=tmp_path, plan=plan, shell=request.param)
    for one in plan.settings:
        if not one.path.startswith("neigh:"):
            here.file(one.path).parent.mkdir(parents=True, exist_ok=True)
            here.file(one.path).write_text((one.old or "").replace(" ", "\t") + "\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "ip").write_text(IP)
    (tmp_path / "ip").chmod(0o755)
    here.file("neighbours").write_text("10.0.2.2 lladdr 52:55:0a:00:02:02 REACHABLE\n")
    here.memory(free=1_000_000, high=500)
    (tmp_path / "plan.sh").write_text(plan_file(plan))
    return here


def test_the_plan_of_the_test_has_every_kind_of_setting(machine: Machine) -> None:
    families = {
        one.path.split(":")[0].split("/")[1 if one.path.startswith("/") else 0]
        for one in machine.plan.settings
    }
    assert families == {"proc", "sys", "neigh"}


def test_apply_then_undo(machine: Machine) -> None:
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert machine.values() == planned(machine.plan)
    back = machine.run("undo")
    assert back.returncode == 0, back.stderr
    assert machine.values() == old(machine.plan)
    assert not list((machine.root / "run").iterdir())


def test_apply_twice_writes_once(machine: Machine) -> None:
    machine.run()
    again = machine.run()
    assert again.returncode == 0
    assert "already in force" in again.stderr
    assert machine.run("undo").returncode == 0
    assert machine.values() == old(machine.plan)


def test_undo_without_notes_does_nothing(machine: Machine) -> None:
    done = machine.run("undo")
    assert done.returncode == 0
    assert "nothing to undo" in done.stderr


def test_show_writes_nothing(machine: Machine) -> None:
    done = machine.run("show")
    assert done.returncode == 0
    assert f"{MIN_FREE}: 1958 (plan: " in done.stdout
    assert machine.values() == old(machine.plan)


def test_an_unknown_word_is_a_usage_error(machine: Machine) -> None:
    assert machine.run("help").returncode == 2


def remove_a_file(machine: Machine) -> None:
    machine.file("/proc/sys/net/ipv4/udp_mem").unlink()


def change_a_value(machine: Machine) -> None:
    machine.file("/proc/sys/net/ipv4/udp_mem").write_text("1 2 3\n")


def lose_the_neighbour(machine: Machine) -> None:
    machine.file("neighbours").write_text("")


def leave_notes(machine: Machine) -> None:
    machine.file("/run/tidegate-plan.notes").write_text("file\t/proc/x\t1\t2\n")


def lose_the_place_for_notes(machine: Machine) -> None:
    machine.file("/run").rmdir()


@pytest.mark.parametrize(
    "trouble",
    [remove_a_file, change_a_value, lose_the_neighbour, leave_notes, lose_the_place_for_notes],
    ids=lambda trouble: trouble.__name__,
)
def test_what_is_not_as_planned_stops_it_before_anything_is_written(
    machine: Machine, trouble: Callable[[Machine], None]
) -> None:
    trouble(machine)
    files = [
        one.path
        for one in machine.plan.settings
        if one.path.startswith("/") and machine.file(one.path).exists()
    ]
    before = {path: machine.file(path).read_text() for path in files}
    done = machine.run()
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert {path: machine.file(path).read_text() for path in files} == before


def test_a_write_that_fails_in_the_middle_takes_everything_back(machine: Machine) -> None:
    """One file goes away after everything was looked at, just before it is written."""
    script = (machine.root / "plan.sh").read_text()
    broken = script.replace(
        'write_file() { put "$1" "$3"; }',
        'write_file() { case $1 in *threaded) rm -f "$ROOT$1"; mkdir "$ROOT$1" ;; esac; put "$1" "$3"; }',
    )
    assert broken != script
    (machine.root / "plan.sh").write_text(broken)
    done = machine.run()
    assert done.returncode == 1
    assert "taking everything back" in done.stderr
    expected = old(machine.plan)
    del expected["/sys/class/net/eth0/threaded"]
    now = {one.path: machine.value(one) for one in machine.plan.settings if one.path in expected}
    assert now == expected


def test_a_refused_neighbour_takes_everything_back(machine: Machine) -> None:
    (machine.root / "no-neighbours").touch()
    done = machine.run()
    assert done.returncode == 1
    assert "ip neigh refused" in done.stderr
    assert "nothing was changed" in done.stderr
    assert machine.values() == old(machine.plan)


def test_a_raise_goes_in_steps_when_little_is_free(machine: Machine) -> None:
    machine.memory(free=2_500, high=800)
    done = machine.run()
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stderr.splitlines() if MIN_FREE in line]
    assert len(steps) > 2
    assert machine.values() == planned(machine.plan)
    assert machine.run("undo").returncode == 0
    assert machine.values() == old(machine.plan)


def test_a_raise_without_free_pages_waits_then_takes_everything_back(machine: Machine) -> None:
    machine.memory(free=900, high=800)
    done = machine.run(wait=1)
    assert done.returncode == 1
    assert "pages must be free" in done.stderr
    assert machine.values() == old(machine.plan)


def test_undo_leaves_what_somebody_else_wrote_since(machine: Machine) -> None:
    machine.run()
    machine.file(MIN_FREE).write_text("99999\n")
    done = machine.run("undo")
    assert done.returncode == 1
    assert "left as it is" in done.stderr
    expected = old(machine.plan) | {MIN_FREE: "99999"}
    assert machine.values() == expected


def test_an_interrupted_run_takes_everything_back(machine: Machine) -> None:
    """The signal comes while it waits for free pages."""
    machine.memory(free=900, high=800)
    words = [*machine.shell, str(machine.root / "plan.sh")]
    with subprocess.Popen(words, env=machine.environment(60), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "high_order_alloc_disable" in line:  # the last one before the raise
                process.terminate()
                break
        rest = process.stderr.read()
    assert process.returncode == 1
    assert "interrupted" in rest
    assert machine.values() == old(machine.plan)


def test_a_name_with_a_line_break_stays_in_its_comment(tmp_path: Path) -> None:
    host = replace(stock.host(), name="evil\ntouch /tmp/evil; #")
    text = plan_file(solve(host, format="script"))
    assert not any(line.startswith("touch") for line in text.splitlines())


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_the_syntax_is_plain_sh(shell: list[str], tmp_path: Path) -> None:
    for number, host in enumerate((stock.host(), stock.host(driver="e1000"), stock.host(driver="nobody"))):
        path = tmp_path / f"{number}.sh"
        path.write_text(plan_file(solve(host, format="script")))
        subprocess.run([*shell, "-n", str(path)], check=True)


def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    path = tmp_path / "plan.sh"
    path.write_text(plan_file(solve(stock.host(), format="script")))
    # 2317: functions that are called by name ("$1"_file)
    done = subprocess.run(
        ["shellcheck", "-s", "sh", "-e", "SC2317,SC2329", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
