"""What `simulate`, `compare` and `cases` print: the word first, in words that need no knowledge, and whole."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.report import simulated

from tidegate.report.simulate_text import cases_text, compare_text, simulate_text
from tidegate.report.simulate_words import (
    command_words,
    delay_words,
    drop_rows,
    fact_words,
    facts_words,
    gap_words,
    held_words,
    lost_percent,
    low_waters,
    percent_words,
    time_words,
    told_run,
)
from tidegate.simulation import Cases, Compared, Simulated, Word

SGR = re.compile(r"\x1b\[[0-9;]*m")
SAMPLES = pytest.mark.parametrize("sample", simulated.EVERY)


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@SAMPLES
def test_the_word_with_its_seeds_and_the_claim_stand_first(sample: Callable[[], Simulated]) -> None:
    result = sample()
    first = flat(simulate_text(result, width=100))
    assert first.startswith(f"{result.word} in {result.k} of {result.n} seed")
    if sample is not simulated.hostile:
        assert f": {result.claim}." in first[:200]


def test_whether_it_was_expected_is_said() -> None:
    assert "in 2 of 3 seeds, as expected:" in simulate_text(simulated.stuck())
    assert "in 1 of 1 seed:" in simulate_text(simulated.lucky())
    assert "in 1 of 1 seed, but STUCK was expected:" in simulate_text(simulated.seen())


def test_the_story_is_that_of_the_first_run_that_earned_the_word() -> None:
    result = simulated.stuck()
    assert [run.word for run in result.runs] == [Word.LUCKY, Word.STUCK, Word.STUCK]
    text = simulate_text(result)
    assert told_run(result) is result.runs[1]
    assert "How the machine dies (virtual time, seed 7)" in text
    assert "Other seeds: LUCKY in 1." in flat(text)
    steps = re.findall(r"^  +(\d+)\. +(\S+ \S+)  (.*)", text, re.MULTILINE)
    assert [int(step[0]) for step in steps] == list(range(1, 8))
    assert steps[0][1:] == ("60 ms", "kswapd wakes and writes pages out over the network (free 212")
    assert steps[-1][1] == "242 s"


def test_a_long_story_keeps_its_beginning_and_its_end() -> None:
    base = simulated.stuck()
    run = base.runs[1]
    many = tuple(replace(run.milestones[0], text=f"step number {at}") for at in range(1, 31))
    long = replace(base, runs=(replace(run, milestones=many),))
    text = simulate_text(long)
    shown = [int(found) for found in re.findall(r"step number (\d+)", text)]
    assert shown == [1, 2, 3, 4, 5, 6, 7, 8, 27, 28, 29, 30]
    assert "  and 18 steps in between" in text.splitlines()
    assert [int(found) for found in re.findall(r"step number (\d+)", simulate_text(long, all=True))] == list(
        range(1, 31)
    )


def test_nothing_that_was_measured_is_missing() -> None:
    result = simulated.stuck()
    run = told_run(result)
    text = flat(simulate_text(result, all=True))
    for user in run.users:
        assert f"{user.name} {user.word} {user.admitted:,} {user.completed:,} {user.waiting:,}" in text
    for holding in run.holdings:
        assert holding.holder in text
        assert f"{time_words(holding.longest_ns)} {holding.packets:,} {holding.at_end_pages:,}" in text
    for reason, packets in run.drops.items():
        assert f"{reason} {packets:,} {run.block_drops[reason]:,}" in text
    for name, packets in run.foreign.items():
        assert f"{name} {packets:,}" in text
    for step, times in run.steps.items():
        assert f"{step} {times:,}" in text
    for one in result.runs:
        assert f"{one.seed} {one.word} {time_words(one.gap_ns)}" in text
    assert "98.5 % lost" in text
    assert "free pages 0 min 171 171 below" in text
    assert "free pages 0 atomic floor 64 64 below" in text
    assert "receive ring (buffers) 0 empty ran out" in text


def test_the_holder_that_held_most_stands_first() -> None:
    run = simulated.stuck_run()
    turned = replace(simulated.stuck(), runs=(replace(run, holdings=run.holdings[::-1]),))
    text = simulate_text(turned)
    assert text.index("others_sockets") < text.index("softnet ") < text.index("block_sockets")


def test_the_reason_that_dropped_most_stands_first() -> None:
    run = replace(simulated.stuck_run(), drops={"c": 3, "a": 7, "b": 7}, block_drops={"b": 2, "d": 1})
    assert drop_rows(run) == [("b", 7, 2), ("a", 7, 0), ("c", 3, 0), ("d", 0, 1)]


def test_a_reserve_that_nobody_held() -> None:
    run = replace(simulated.seen_run(), holdings=())
    result = replace(simulated.seen(), runs=(run,))
    assert "nobody: no packet's memory came from it" in simulate_text(result)
    without = replace(result, runs=(replace(run, reserve_pages=0),))
    assert "Who held" not in simulate_text(without)


@SAMPLES
@pytest.mark.parametrize("width", [1, 40, 80, 200])
def test_the_last_line_repeats_the_run_and_is_never_broken(
    sample: Callable[[], Simulated], width: int
) -> None:
    result = sample()
    last = simulate_text(result, width=width).splitlines()[-1].strip()
    assert last == command_words(result)
    words = shlex.split(last)
    assert words[:2] == ["tidegate", "simulate"]
    assert words[-2:] == ["--seed", str(told_run(result).seed)]
    if sample is not simulated.hostile:
        assert words[2:5] == ["swap-over-nbd", "--arm", result.arm]


def test_a_run_without_an_arm_is_repeated_by_its_design() -> None:
    base = simulated.seen()
    run = replace(base.runs[0], arm="", design="mail without discard, mark without bypass")
    assert command_words(replace(base, arm="", runs=(run,))) == (
        "tidegate simulate swap-over-nbd --design mail --without discard --without mark --without bypass --seed 7"
    )


def test_what_the_caller_left_out_is_left_out_again() -> None:
    result = replace(simulated.seen(), left_out=("discard",))
    assert command_words(result).endswith("--arm mail --without discard --seed 7")
    named = replace(result, runs=(replace(result.runs[0], arm="no discard; reboot"),))
    assert "--arm 'no discard; reboot' " in command_words(named)


@pytest.mark.parametrize("width", [1, 40, 57, 80, 100])
@pytest.mark.parametrize("everything", [False, True])
def test_nothing_but_the_command_is_wider_than_the_screen(width: int, everything: bool) -> None:
    most = min(max(width, 40), 100)
    texts = [simulate_text(sample(), width=width, all=everything) for sample in simulated.ALL]
    texts += [compare_text(simulated.compared(), width=width), cases_text(simulated.cases(), width=width)]
    for text in texts:
        for line in text.splitlines():
            assert len(line) <= most or line.startswith("  tidegate simulate "), line


def test_narrow_tables_lose_nothing() -> None:
    for sample in simulated.ALL:
        numbers = [
            sorted(re.findall(r"\d+(?:[,.]\d+)*", simulate_text(sample(), width=width, all=True)))
            for width in (40, 60, 100)
        ]
        assert numbers[0] == numbers[1] == numbers[2]


def test_colour_changes_nothing_else() -> None:
    made: list[tuple[str, str]] = [
        (simulate_text(sample(), all=True), simulate_text(sample(), all=True, colour=True))
        for sample in simulated.ALL
    ]
    made.append((compare_text(simulated.compared()), compare_text(simulated.compared(), colour=True)))
    made.append((cases_text(simulated.cases()), cases_text(simulated.cases(), colour=True)))
    for plain, coloured in made:
        assert "\x1b" not in plain
        assert SGR.sub("", coloured) == plain
        assert coloured.count("\x1b[1;31m") + coloured.count("\x1b[1;33m") + coloured.count("\x1b[1;32m") >= 1


def hostile_compared() -> Compared:
    base = simulated.compared()
    rows = tuple(replace(row, design=simulated.HOSTILE) for row in base.rows)
    return replace(base, case=simulated.HOSTILE, claim=simulated.HOSTILE, rows=rows)


def hostile_cases() -> Cases:
    base = simulated.cases()
    bad = simulated.HOSTILE
    cases = tuple(
        replace(
            case,
            name=bad,
            claim=bad,
            source=bad,
            finding=bad,
            arms=tuple(
                replace(
                    arm, name=bad, design=bad, expected={"simulate": bad}, found={"simulate": bad, bad: bad}
                )
                for arm in case.arms
            ),
        )
        for case in base.cases
    )
    return replace(base, cases=cases)


@pytest.mark.parametrize("width", [40, 100])
def test_hostile_names_cannot_reach_the_terminal(width: int) -> None:
    result = simulated.hostile()
    for text in (
        simulate_text(result, width=width),
        simulate_text(result, width=width, all=True),
        compare_text(hostile_compared(), width=width),
        cases_text(hostile_cases(), width=width),
    ):
        assert all(line.isprintable() for line in text.split("\n"))
        assert "\\x1b[31m" in text


def test_times_read_well() -> None:
    expected = {
        0: "0",
        1: "1 ns",
        999: "999 ns",
        1000: "1 us",
        12_340: "12.3 us",
        999_499: "999 us",
        999_500: "1 ms",
        150_400_000: "150 ms",
        1_840_000: "1.84 ms",
        99_949_999: "99.9 ms",
        99_950_000: "100 ms",
        2_000_000_000: "2 s",
        242_000_000_000: "242 s",
        1_234_000_000_000: "1,234 s",
    }
    assert {time_ns: time_words(time_ns) for time_ns in expected} == expected
    assert time_words(None) == "never"
    assert [delay_words(one) for one in (None, 0, 1)] == ["never", "at once", "1 ns"]


def test_a_share_is_never_rounded_to_none_or_all() -> None:
    expected = {0.0: "0 %", 0.01: "<0.1 %", 50.0: "50 %", 98.46: "98.5 %", 99.99: ">99.9 %", 100.0: "100 %"}
    assert {share: percent_words(share) for share in expected} == expected
    assert percent_words(lost_percent({})) == "-"
    assert lost_percent({"arrived": 8, "dropped": 2}) == 25


def test_numbers_of_a_moment_carry_their_unit() -> None:
    assert fact_words("free_pages", 64) == "free 64 pages"
    assert fact_words("reserve_out_pages", 1) == "reserve out 1 page"
    assert fact_words("gap_ns", 1_200_000_000) == "gap 1.2 s"
    assert fact_words("tcp_bytes", 4096) == "tcp 4,096 B"
    assert fact_words("waiting", 1280) == "waiting 1,280"
    assert fact_words("_pages", 3) == " pages 3"


def test_a_number_that_the_sentence_says_is_not_said_again() -> None:
    moment = replace(
        simulated.stuck_run().milestones[0],
        text="1,212 pages are free",
        facts={"free_pages": 1212, "waiting": 12},
    )
    assert facts_words(moment) == "waiting 12"


def test_page_seconds_are_not_rounded_to_nothing() -> None:
    assert [held_words(one) for one in (0, 40_000_000, 90_000_000, 10**9, 123_456_789_000)] == [
        "0.0",
        "0.04",
        "0.09",
        "1.0",
        "123.5",
    ]


def test_who_waited_longest_and_whether_it_ended() -> None:
    assert gap_words(simulated.stuck_run()) == (
        "swap waited 242 s without a completion, from 150 ms, and it had not ended when the run did, at 242 s"
    )
    assert gap_words(simulated.lucky_run()).endswith("from 150 ms, until 2.01 s, after the end of the storm")
    assert gap_words(simulated.seen_run()).endswith("from 131 ms, until 145 ms")
    assert "nobody waited" in gap_words(replace(simulated.seen_run(), users=()))


def test_low_water_is_told_against_its_line() -> None:
    run = replace(simulated.seen_run(), low_water={"free": 64, "ring": 3, "reserve": 0})
    told = [(one.pool, one.line, one.so) for one in low_waters(run)]
    assert told == [
        ("free pages", "min", "107 below"),
        ("free pages", "atomic floor", "reached it"),
        ("receive ring (buffers)", "empty", "3 left"),
        ("reserve", "empty", "ran out"),
    ]


def test_designs_side_by_side() -> None:
    text = compare_text(simulated.compared(), width=80)
    assert text.startswith("Which of the proposals of 2005 survives, and at what price.\n")
    rows = {
        line.split()[0]: line.split()[1:] for line in text.splitlines() if re.match(r"  \w+ +[A-Z]{4}", line)
    }
    assert rows == {
        "mail": "SEEN 20/20 48 41 99.2 % 100 ms 0 38 ms".split(),
        "mempool": "SEEN 20/20 96 41 99.2 % 100 ms 96 0".split(),
        "random_drop": "LUCKY 3/20 > 1,024 41 99.2 % 2.6 s 0 38 ms".split(),
        "bare": "STUCK 20/20 - 0 99.2 % never 0 never".split(),
    }


def test_cases_by_judge_with_disagreement_in_the_open() -> None:
    text = cases_text(simulated.cases(), width=80)
    first, _, head, *_ = text.splitlines()
    assert first == "2 cases, 4 arms: 1 disagreement, 1 stale, 1 without a stored result"
    assert head == "Where the judges differ"
    assert "random-drop, arm random_drop: simulate says SEEN, prove says STUCK" in flat(text)
    lines = {
        line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines() if line.startswith("  ")
    }
    assert lines["bare"] == "STUCK 20/20 STUCK agree"
    assert lines["mail"] == "SEEN 20/20 HOLDS stale"
    assert lines["random_drop"] == "SEEN 18/20, not STUCK STUCK DISAGREE, not as expected"
    assert lines["drop_throttle"] == "(STUCK) (STUCK) not run"


def test_no_case_at_all() -> None:
    text = cases_text(Cases(cases=(), disagreements=0, stale=0, missing=0))
    assert text.startswith("0 cases, 0 arms: 0 disagreements")
    assert "differ" not in text


@pytest.mark.parametrize("word", list(Word))
def test_every_word_can_be_told(word: Word) -> None:
    run = replace(simulated.seen_run(), word=word, complete_ns=None, clear_ns=None)
    result = replace(simulated.seen(), word=word, runs=(run,))
    assert simulate_text(result, colour=True).startswith(
        f"\x1b[1;{ {'STUCK': 31, 'SEEN': 32}.get(word, 33) }m{word}"
    )
