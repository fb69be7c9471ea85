from __future__ import annotations

import configparser
import re
from dataclasses import replace

import pytest
from tests.plan import stock

from tidegate.plan import solve
from tidegate.report.json import to_json
from tidegate.report.plan_formats import plan_file
from tidegate.report.plan_text import headline, plan_text
from tidegate.result import Plan, Verdict


def planned(format: str = "all", **facts: object) -> Plan:
    host = stock.host(**facts)  # type: ignore[arg-type]
    return solve(replace(host, links=(replace(host.links[0], threaded=True),)), format=format)


def lines(text: str) -> list[str]:
    """What is no comment."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_a_sysctl_file_holds_what_the_plan_says_and_nothing_else() -> None:
    plan = planned("sysctl")
    found = dict(line.split(" = ") for line in lines(plan_file(plan)))
    assert found == {one.id: one.new for one in plan.settings}
    assert all(re.fullmatch(r"[a-z0-9_./-]+", key) for key in found)
    assert list(found)[-2:] == ["vm.min_free_kbytes", "vm.watermark_boost_factor"]


def test_every_value_is_explained_beside_it() -> None:
    text = plan_file(planned("sysctl"))
    assert text.count("\n# Was ") == len(lines(text))
    assert "# What this file cannot hold:" in text
    assert "# - cap:swap /dev/nbd0 = SO_SNDBUF=131072 SO_RCVBUF=131072" in text
    assert "a floor, not a stock" in text


def test_a_tuned_profile_reads_as_one() -> None:
    plan = planned("tuned")
    reader = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    reader.optionxform = str  # type: ignore[assignment,method-assign]
    reader.read_string(plan_file(plan))
    assert reader.sections() == ["main", "sysctl", "sysfs"]
    assert dict(reader["sysctl"]) == {
        one.id: one.new for one in plan.settings if one.path.startswith("/proc/sys/")
    }
    assert dict(reader["sysfs"]) == {"/sys/class/net/eth0/threaded": "0"}
    assert "neigh.permanent:10.0.2.2" in plan_file(plan).split("cannot hold")[1]


@pytest.mark.parametrize("format", ["sysctl", "tuned", "script"])
def test_names_of_the_host_stay_in_comments(format: str) -> None:
    host = replace(stock.host(), name="a\nvm.panic_on_oom = 1\r\n[script]")
    text = plan_file(solve(host, format=format))
    assert not any("panic_on_oom" in line for line in lines(text))
    assert "\r" not in text


@pytest.mark.parametrize("format", ["sysctl", "tuned", "script"])
def test_an_empty_plan_is_a_file_without_settings(format: str) -> None:
    host = replace(stock.host(), users=())
    text = plan_file(solve(host, format=format))
    assert "Nothing to set" in text
    assert "min_free_kbytes =" not in text


def test_a_file_that_does_not_suffice_says_so_at_its_top() -> None:
    head = "\n".join(plan_file(planned("sysctl", driver="e1000")).splitlines()[:8])
    assert "it holds only together with an early drop" in head.replace("\n# ", " ")


def test_text_groups_by_law_and_shows_both_conditions() -> None:
    text = plan_text(planned(), width=100)
    heads = [text.index(word) for word in ("\nThrottle:", "\nDiscard:", "\nReserve:", "\nThe two conditions")]
    assert heads == sorted(heads)
    assert "settings alone: holds" in text
    assert "with an early drop: holds" in text
    assert "vm.min_free_kbytes: 1958 -> " in text
    assert max(map(len, text.splitlines())) <= 100


def test_all_adds_bounds_basis_and_undo() -> None:
    plan = planned()
    short, long = plan_text(plan), plan_text(plan, all=True)
    for word in ("at least: ", "at most: ", "basis: arithmetic", "undo: ", "dominated by: "):
        assert word not in short
        assert word in long
    assert "worst case, unbounded" in long


def test_text_is_plain_without_colour() -> None:
    assert "\x1b" not in plan_text(planned())
    assert "\x1b" in plan_text(planned(), colour=True)


def test_headline_of_every_outcome() -> None:
    plan = planned()
    assert headline(plan) == f"{len(plan.settings)} settings: AT_RISK now, SAFE after"
    assert headline(replace(plan, settings=())) == "Nothing to set: this host is SAFE"
    assert "does not fit within 5 %" in headline(replace(plan, fits=False, after=Verdict.AT_RISK))
    assert "cannot be told" in headline(replace(plan, fits=None, after=Verdict.CANNOT_TELL))
    assert headline(replace(plan, settings=plan.settings[:1])).startswith("1 setting: ")


def test_json_is_stable() -> None:
    assert to_json(planned()) == to_json(planned())
