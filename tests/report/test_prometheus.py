"""Metrics and alert rules: clean under promtool, equal to the JSON, and the alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.report import samples

from tidegate.report.alerts import RULES, alert_rules
from tidegate.report.exposition import Kind, Metric, counter, exposition, gauge, sample
from tidegate.report.json import to_json
from tidegate.report.prometheus import COUNTERS, check_metrics
from tidegate.result import CheckResult

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)
ALL_COUNTERS = {name: at for at, name in enumerate(COUNTERS, start=7)}
LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')


def promtool(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], input=text, capture_output=True, text=True, check=False)


def series(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            found[line.rsplit(" ", 1)[0]] = float(match[3])
    return found


@needs_promtool
@pytest.mark.parametrize("sample", [*samples.ALL, samples.hostile])
def test_promtool_has_nothing_to_say(sample: Callable[[], CheckResult]) -> None:
    for text in (
        check_metrics([sample()], [ALL_COUNTERS]),
        check_metrics([sample(), sample(), samples.safe()]),
    ):
        done = promtool("check", "metrics", text=text)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_promtool
def test_promtool_would_say_something() -> None:
    done = promtool("check", "metrics", text="# TYPE tidegate_drops counter\ntidegate_drops 1\n")
    assert done.returncode != 0


@needs_promtool
def test_alert_rules_are_clean(tmp_path: Path) -> None:
    rules = tmp_path / "tidegate.yml"
    rules.write_text(alert_rules())
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules))
    assert done.returncode == 0, done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def fired(tmp_path: Path, text: str, *, minutes: int) -> set[str]:
    """The alerts that fire when a target shows `text` for so long, as promtool's own evaluation says."""
    (tmp_path / "rules.yml").write_text(alert_rules())
    inputs = [
        {"series": _at(name, instance="rack7:9100"), "values": f"{value:g}+0x{minutes}"}
        for name, value in series(text).items()
    ]
    wrong = [{"eval_time": f"{minutes}m", "alertname": rule.name, "exp_alerts": []} for rule in RULES]
    unit = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": inputs, "alert_rule_test": wrong}],
    }
    (tmp_path / "test.yml").write_text(json.dumps(unit))
    done = promtool("test", "rules", str(tmp_path / "test.yml"))
    # Each alert is expected not to fire, so those that do are what promtool complains of.
    return set(re.findall(r"alertname: (\w+), time", done.stdout + done.stderr))


def _at(name: str, *, instance: str) -> str:
    bare, _, labels = name.partition("{")
    return f'{bare}{{instance="{instance}"' + (f",{labels}" if labels else "}")


@needs_promtool
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    base = samples.at_risk()
    # promtool's clock starts at 1970, so the time of the record is far ahead of it: never stale.
    assert fired(tmp_path, check_metrics([base]), minutes=5) == {
        "TidegateAtRisk",
        "TidegateReserveTooSmall",
        "TidegateDeadlockFinding",
    }
    assert fired(tmp_path, check_metrics([samples.cannot_tell()]), minutes=90) == {
        "TidegateCannotTell",
        "TidegateReserveUnbounded",
    }
    assert fired(tmp_path, check_metrics([samples.safe()]), minutes=90) == set()
    old = replace(samples.safe(), host=replace(samples.safe().host, taken="1970-01-01T00:00:00Z"))
    assert fired(tmp_path, check_metrics([old]), minutes=3 * 24 * 60) == {"TidegateCheckStale"}


@needs_promtool
def test_an_accepted_finding_alerts_again_when_it_has_expired(tmp_path: Path) -> None:
    base = samples.safe()
    one = replace(samples.findings_nbd()[1], accepted=samples.findings_nbd()[4].accepted)
    assert one.accepted is not None
    accepted = replace(base, findings=(one,))
    assert fired(tmp_path, check_metrics([accepted]), minutes=5) == set()
    expired = replace(base, findings=(replace(one, accepted=replace(one.accepted, expired=True)),))
    assert fired(tmp_path, check_metrics([expired]), minutes=5) == {
        "TidegateDeadlockFinding",
        "TidegateAcceptanceExpired",
    }


@pytest.mark.parametrize("sample", samples.ALL)
def test_the_numbers_are_those_of_the_json(sample: Callable[[], CheckResult]) -> None:
    value = json.loads(to_json(sample()))
    found = series(check_metrics([sample()]))
    page = value["reserve"]["page_bytes"]
    for verdict in ("SAFE", "AT_RISK", "CANNOT_TELL"):
        assert found[f'tidegate_check_verdict{{verdict="{verdict}"}}'] == (verdict == value["verdict"])
    for name in ("need", "exclusive", "band"):
        pages = value["reserve"][f"{name}_pages"]
        assert found.get(f"tidegate_reserve_{name}_bytes") == (None if pages is None else pages * page)
    for zone in value["reserve"]["zones"]:
        where = f'node="{zone["node"]}",zone="{zone["name"]}"'
        for level in ("high", "low", "min", "floor", "boost"):
            key = f'tidegate_zone_watermark_bytes{{{where},level="{level}"}}'
            assert found[key] == zone[level] * page
        assert found[f"tidegate_zone_free_bytes{{{where}}}"] == zone["free"] * page
    applies = sum(number for key, number in found.items() if key.startswith("tidegate_finding_applies"))
    assert applies == sum(one["state"] == "applies" for one in value["findings"])


def test_hosts_are_told_apart_even_by_the_same_name() -> None:
    text = check_metrics([samples.at_risk(), samples.at_risk(), samples.safe()])
    assert {'host="virtio-nbd"', 'host="virtio-nbd #2"', 'host="local-disk"'} == set(
        re.findall(r'(?<=[{,])host="[^"]*"', text)
    )
    assert len(re.findall("# HELP tidegate_check_verdict ", text)) == 1
    assert "host=" not in check_metrics([samples.at_risk()])


def test_only_known_counters_are_shown() -> None:
    text = check_metrics([samples.safe()], [{"TcpExt.PFMemallocDrop": 12, "TcpExt.Other": 1}])
    assert "tidegate_pfmemalloc_drops_total 12\n" in text
    assert "Other" not in text


def test_what_is_not_known_is_not_shown_as_zero() -> None:
    text = check_metrics([samples.cannot_tell()])
    assert "tidegate_reserve_need_bytes" not in text
    assert "tidegate_reserve_need_unbounded 1\n" in text
    odd = replace(samples.safe(), host=replace(samples.safe().host, taken="yesterday"))
    assert "timestamp" not in check_metrics([odd])


def test_escaping() -> None:
    text = exposition([gauge("tidegate_x", "a\\b\nc", sample(1, name='q"\\\n'))])
    assert text == '# HELP tidegate_x a\\\\b\\nc\n# TYPE tidegate_x gauge\ntidegate_x{name="q\\"\\\\\\n"} 1\n'


def test_numbers_are_written_as_they_are() -> None:
    values = (0, -3, 2**63, True, 0.1, 1e300, float("inf"), float("-inf"), float("nan"))
    text = exposition([gauge("tidegate_x", "x", *(sample(one, at=str(at)) for at, one in enumerate(values)))])
    written = [line.split()[-1] for line in text.splitlines()[2:]]
    assert written == ["0", "-3", "9223372036854775808", "1", "0.1", "1e+300", "+Inf", "-Inf", "NaN"]


def test_mistakes_are_caught_where_they_are_made() -> None:
    wrongs: tuple[Callable[[], Metric], ...] = (
        lambda: gauge("Tidegate", "x"),
        lambda: gauge("tidegate_x_total", "x"),
        lambda: counter("tidegate_x", "x"),
        lambda: gauge("tidegate_x", ""),
        lambda: gauge("tidegate_x", "x", sample(1), sample(2)),
        lambda: gauge("tidegate_x", "x", sample(1, __name="y")),
    )
    for wrong in wrongs:
        with pytest.raises(AssertionError):
            wrong()
    twice = Metric(name="tidegate_x", help="x", kind=Kind.GAUGE, samples=())
    with pytest.raises(AssertionError, match="together"):
        exposition([twice, twice])
