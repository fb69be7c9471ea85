"""The screen: verdict first, calm, readable at any width, safe against what a host is called."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.report import samples

from tidegate.report.text import check_text, hosts_table
from tidegate.report.words import printable, worst_first
from tidegate.result import CheckResult, Severity, State, Verdict

SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("sample", samples.ALL)
def test_verdict_and_reason_stand_first(sample: Callable[[], CheckResult]) -> None:
    result = sample()
    text = check_text(result)
    first = text.split("\n\n")[0].replace("\n  ", " ")
    assert first.startswith(f"{result.verdict.value}: {result.reason}.")


def test_one_calm_screen_at_80_columns() -> None:
    lines = check_text(samples.at_risk(), width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 60


def test_many_of_everything_still_fit_on_a_screen() -> None:
    base = samples.at_risk()
    crowd = replace(
        base,
        users=tuple(replace(base.users[0], name=f"swap /dev/nbd{at}") for at in range(500)),
        findings=tuple(replace(base.findings[0], id=f"D{at}") for at in range(30)),
        plan=tuple(replace(base.plan[1], id=f"setting {at}") for at in range(200)),
        gaps=base.gaps * 100,
    )
    lines = check_text(crowd).splitlines()
    assert len(lines) < 80
    assert "  and 496 more" in lines
    assert "  and 188 more" in lines
    assert "  and 98 more" in lines
    assert len(check_text(crowd, all=True).splitlines()) > 5_000


@pytest.mark.parametrize("width", [1, 40, 57, 80, 200])
@pytest.mark.parametrize("everything", [False, True])
def test_only_what_must_not_be_broken_is_wider_than_the_screen(width: int, everything: bool) -> None:
    for line in check_text(samples.at_risk(), width=width, all=everything).splitlines():
        if len(line) <= min(max(width, 40), 100):
            continue
        words = line.split()
        table = any(re.fullmatch(r"[\d,]+", word) for word in words) or "managed" in words
        assert len(words) == 1 or table, line


def test_colour_changes_nothing_else() -> None:
    for sample in samples.ALL:
        plain, coloured = check_text(sample()), check_text(sample(), colour=True)
        assert "\x1b" not in plain
        assert SGR.search(coloured)
        assert SGR.sub("", coloured) == plain
    rows = [sample() for sample in samples.ALL]
    assert SGR.sub("", hosts_table(rows, colour=True)) == hosts_table(rows)


@pytest.mark.parametrize("everything", [False, True])
def test_hostile_names_cannot_reach_the_terminal(everything: bool) -> None:
    for text in (
        check_text(samples.hostile(), all=everything, colour=False),
        hosts_table([samples.hostile(), samples.safe()]),
    ):
        assert all(line.isprintable() or not line for line in text.split("\n"))
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_all_shows_what_the_screen_leaves_out() -> None:
    result = samples.at_risk()
    whole = re.sub(r"\s+", " ", check_text(result, all=True))
    for finding in result.findings:
        assert f"{finding.id}: {finding.title}" in whole
        for one in finding.evidence:
            assert f"{one.source}: {one.value}" in whole
    for row in result.reserve.rows:
        assert row.holder in whole
        assert row.why in whole
    for zone in result.reserve.zones:
        assert f"0 {zone.name} {zone.managed:,} {zone.free:,}" in whole
    for setting in result.plan:
        assert f"where: {setting.path}" in whole
    assert "10.0.2.15:48022 -> 10.0.2.2:10809: send buffer 87,040 B" in whole
    assert " ... " not in whole


def test_every_deadlock_is_on_the_screen_and_before_all_else() -> None:
    text = check_text(samples.at_risk())
    at = [text.index(f" {one}: ") for one in ("deadlock D1", "deadlock D15", "fault D10")]
    assert at == sorted(at)
    assert "absent" not in text


def test_an_accepted_finding_is_shown_and_an_expired_one_says_so() -> None:
    base = samples.at_risk()
    assert "(accepted until 2027-01-31)" in check_text(base, width=100)
    nine = next(one for one in base.findings if one.id == "D9")
    assert nine.accepted is not None
    expired = replace(nine, accepted=replace(nine.accepted, expired=True))
    text = check_text(replace(base, findings=(expired,)), width=100)
    assert "(accepted until 2027-01-31, which has passed)" in re.sub(r"\s+", " ", text)


def test_an_unbounded_need_never_looks_small() -> None:
    base = samples.at_risk()
    text = check_text(replace(base, reserve=replace(base.reserve, need_pages=None)))
    need = next(line for line in text.splitlines() if line.startswith("  need"))
    exclusive = next(line for line in text.splitlines() if line.startswith("  exclusive"))
    assert "no bound" in need
    assert need.endswith("...>")
    assert len(need) >= len(exclusive)


def test_a_host_without_users_says_no_more_than_it_must() -> None:
    text = check_text(samples.safe())
    assert len(text.splitlines()) < 10
    assert "reserve" not in text


def test_connections_to_one_server_are_one_part_of_the_chain() -> None:
    base = samples.at_risk()
    user = base.users[0]
    chain = (
        *user.chain[:3],
        replace(user.chain[2], name="10.0.2.15:50000 to 10.0.2.2:10809"),
        *user.chain[3:],
    )
    text = check_text(replace(base, users=(replace(user, chain=chain),)), width=100)
    assert "nbd0 -> socket 10.0.2.2:10809 (2) -> route 10.0.2.2 -> nic eth0" in text
    assert "10.0.2.15:50000" in check_text(replace(base, users=(replace(user, chain=chain),)), all=True)


def test_only_swap_makes_it_last_for_ever() -> None:
    base = samples.at_risk()
    assert "stands still for good" in re.sub(r"\s+", " ", check_text(base))
    mount = replace(base, users=(replace(base.users[0], kind="mount"),))
    assert "until a program is killed" in re.sub(r"\s+", " ", check_text(mount))


def test_rows_are_worst_first() -> None:
    worse = replace(samples.at_risk(), reason="more", host=replace(samples.at_risk().host, name="a"))
    worse = replace(worse, reserve=replace(worse.reserve, need_pages=None))
    ordered = worst_first([samples.safe(), samples.cannot_tell(), samples.at_risk(), worse])
    verdicts = [one.verdict for one in ordered]
    assert verdicts == [Verdict.AT_RISK, Verdict.AT_RISK, Verdict.CANNOT_TELL, Verdict.SAFE]
    assert ordered[0].reserve.need_pages is None
    table = hosts_table(ordered).splitlines()
    assert [line.split()[0] for line in table[1:5]] == [one.value for one in verdicts]


def test_only_what_applies_is_counted() -> None:
    base = samples.at_risk()
    absent = tuple(replace(one, state=State.ABSENT) for one in base.findings)
    assert any(one.severity is Severity.DEADLOCK for one in absent)
    assert "What applies" not in check_text(replace(base, findings=absent))


def test_printable_leaves_printable_text_alone() -> None:
    assert printable("/dev/nbd0 é 漢") == "/dev/nbd0 é 漢"
    assert printable("a\tb\nc\x07") == "a b c\\x07"


def test_what_was_denied_is_named_alike_ones_together() -> None:
    result = replace(samples.safe(), denied=("proc/12/fd", "proc/7/fd", "proc/slabinfo"))
    text = check_text(result, width=200)
    assert "Denied to the user that read this host: 3 paths: proc/*/fd (2), proc/slabinfo\n" in text
    assert "Denied" not in check_text(samples.safe())
