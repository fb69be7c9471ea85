"""The page of trials: one file, nothing loaded, safe, accessible, with the numbers of the JSON."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
from tests.report import trials_made
from tests.report.test_html import CHROMIUM, FRAME, contrast
from tests.report.test_simulate_html import LOADS, mixed, resolve
from tests.report.tree import Tree, elements

from tidegate.report.json import to_json
from tidegate.report.page import COLOURS
from tidegate.report.trials_html import trials_html
from tidegate.report.trials_style import SHADES
from tidegate.report.trials_svg import short_number, storm_ms, thinned, trial_svgs
from tidegate.report.trials_words import EvidenceFile, trial_command
from tidegate.trial import Trials, Verdict

SAMPLES = pytest.mark.parametrize("sample", trials_made.ALL)
DIFF = "--- before\n+++ after\n task:nbd0  state:D\n\t<TASK> & io_schedule+0x46/0x70\n"
FILES = (
    EvidenceFile(name="blocked.diff", size_bytes=len(DIFF), text=DIFF),
    EvidenceFile(name="wire/net.pcap", size_bytes=3_500_000, text=None),
)


def page_of(trials: Trials) -> str:
    evidence = {one.evidence: FILES for one in trials.results if one.evidence is not None}
    return trials_html(trials, evidence, code=trials_made.CODE)


@SAMPLES
def test_nothing_is_loaded_and_nothing_runs(sample: Callable[[], Trials]) -> None:
    text = page_of(sample())
    found = elements(text)
    assert [one.name for one in found if one.name in LOADS] == ["style"]
    for one in found:
        assert not {"src", "srcset", "action", "data", "style", "xlink:href"} & one.attributes.keys()
        assert not any(name.startswith("on") for name in one.attributes)
        assert one.attributes.get("href", "#").startswith("#")
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "").lower()
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#hatch", "#open"}


def test_hostile_names_add_no_element() -> None:
    text = trials_html(
        trials_made.hostile(),
        {
            trials_made.HOSTILE: [
                EvidenceFile(name=trials_made.HOSTILE, size_bytes=9, text=trials_made.HOSTILE)
            ]
        },
    )
    hostile, tame = elements(text), elements(page_of(trials_made.campaign()))
    assert {one.name for one in hostile} <= {one.name for one in tame}
    assert {name for one in hostile for name in one.attributes} <= {
        name for one in tame for name in one.attributes
    }
    assert "\x1b" not in text
    assert "\u202e" not in text


@SAMPLES
def test_what_assistive_technology_needs(sample: Callable[[], Trials]) -> None:
    page = elements(page_of(sample()))
    ids = [one.attributes["id"] for one in page if "id" in one.attributes]
    assert len(set(ids)) == len(ids)
    for one in page:
        for pointer in (one.attributes.get("aria-labelledby", ""), one.attributes.get("href", "")[1:]):
            assert set(pointer.split()) <= set(ids)
        if one.name == "svg" and "aria-hidden" not in one.attributes:
            assert one.attributes["role"] == "img"
            assert [child.name for child in one.children[:2]] == ["title", "desc"]
            assert all(child.text for child in one.children[:2])
        if one.name == "table":
            inner = list(one.walk())
            assert any(part.name == "caption" and part.whole() for part in inner)
            assert all(part.attributes.get("scope") in {"row", "col"} for part in inner if part.name == "th")
        if one.name == "details":
            assert one.children[0].name == "summary"
    assert sum(one.name == "h1" for one in page) == 1


@SAMPLES
def test_the_numbers_are_those_of_the_json(sample: Callable[[], Trials]) -> None:
    trials = sample()
    value = json.loads(to_json(trials))
    pointers = set()
    for one in elements(page_of(trials)):
        if "data-at" in one.attributes:
            pointer = one.attributes["data-at"]
            pointers.add(pointer)
            expected = resolve(value, pointer)
            shown = int(one.attributes["value"]) if one.name == "data" else one.whole()
            assert shown == expected if expected is not None else shown == "margin not measured"
    for at, tally in enumerate(trials.tallies):
        assert {f"/tallies/{at}/{name}" for name in ("failed", "n")} <= pointers
        assert {f"/tallies/{at}/counts/{name}" for name in tally.counts} <= pointers
    for at, _ in enumerate(trials.results):
        wanted = ("verdict", "seed", "margin_pages", "longest_stall_ms", "oom_kills", "storm_packets")
        assert {f"/results/{at}/{name}" for name in wanted} <= pointers


def test_everything_needed_to_repeat_a_trial_is_there() -> None:
    for one in trials_made.campaign().results[::5]:
        whole = Tree(page_of(trials_made.trials([one]))).root.whole()
        for text in (
            one.command,
            one.kernel_sha256,
            one.kernel,
            trial_command(one.job),
            one.reason,
            *one.settings,
        ):
            assert text in whole
        for said in (one.diagnosis, one.fingerprint, one.check):
            assert (said or "") in whole


def test_evidence_stands_there_as_it_is_and_what_does_not_is_named() -> None:
    page = elements(page_of(trials_made.one()))
    pre = next(one.whole() for one in page if one.name == "pre" and "before" in one.whole())
    assert pre.rstrip("\n") == DIFF.replace("\t", "        ").rstrip("\n")
    assert any("wire/net.pcap (3.3 MiB)" in one.whole() for one in page if one.name == "p")


def test_a_cell_is_shaded_by_its_share_and_says_when_it_is_not_as_expected() -> None:
    page = elements(page_of(trials_made.campaign()))
    looks = {
        one.attributes["class"]
        for one in page
        if one.name == "td" and one.attributes.get("class", "").startswith("s")
    }
    assert {"s0", "s4"} <= looks <= {f"s{at}" for at in range(len(SHADES))}
    bad = sum(one.met is False for one in trials_made.campaign().tallies)
    assert sum(one.whole() == "not as expected" for one in page if one.name == "span") == bad == 3
    assert page_of(trials_made.nothing())


def test_a_sweep_is_drawn_for_each_arm_in_the_order_of_its_values() -> None:
    page = elements(page_of(trials_made.campaign()))
    drawn = [one for one in page if one.name == "svg" and "share that fails" in one.children[0].whole()]
    assert [one.children[0].text for one in drawn] == [
        "stock: share that fails over delay_us", "plan: share that fails over delay_us",
    ]  # fmt: skip
    assert drawn[0].children[1].text.endswith("0: 1/6; 1,000: 2/6; 50,000: 4/6; 200,000: 6/6")
    assert not any(
        "share that fails" in one.whole()
        for one in elements(page_of(trials_made.met()))
        if one.name == "title"
    )
    assert [short_number(value) for value in (0, 999, 1000, 1500, 1501, 50_000, 2_000_000)] == [
        "0", "999", "1k", "1.5k", "1501", "50k", "2M",
    ]  # fmt: skip


def test_the_plots_of_a_trial() -> None:
    wedged, survived = trials_made.result(Verdict.WEDGED), trials_made.result(Verdict.SURVIVED)
    free, slack, done = (svg for _, svg in trial_svgs(wedged, "a"))
    assert "least 300; floor 421" in free
    assert "the storm is seen from 15 to 89 s" in free
    assert "least -121 pages above the floor; 59 of 90 moments below it" in slack
    assert "done 6,820 of 24,576 pages" in done
    assert storm_ms(survived.seconds) == (15_000, 54_000)
    assert list(trial_svgs(replace(wedged, seconds=()), "a")) == []
    assert list(trial_svgs(replace(wedged, seconds=wedged.seconds[:1]), "a")) == []
    assert len(list(trial_svgs(replace(wedged, zones=()), "a"))) == 3


def test_no_point_of_a_plot_lies_outside_of_it() -> None:
    for verdict in Verdict:
        for _, svg in trial_svgs(trials_made.result(verdict), "a"):
            for path in re.findall(r' d="(M[^"H]*)"', svg):
                points = re.findall(r"(-?[0-9.]+) (-?[0-9.]+)", path)
                assert all(68 <= float(x) <= 312.1 and 10 <= float(y) <= 160.1 for x, y in points), path


def test_thinning_keeps_the_ends_and_the_least_slack() -> None:
    many = trials_made.seconds(Verdict.SURVIVED, 5000)
    low = replace(many[2345], slack_pages=-9999)
    many = (*many[:2345], low, *many[2346:])
    kept = thinned(many)
    assert len(kept) <= 240
    assert (kept[0], kept[-1]) == (many[0], many[-1])
    assert low in kept
    assert [one.guest_ms for one in kept] == sorted(one.guest_ms for one in kept)


def test_what_an_older_rig_made_is_marked() -> None:
    trials = trials_made.trials(
        [trials_made.result(Verdict.WEDGED, 1), trials_made.result(Verdict.WEDGED, 2, code="old")]
    )
    page = elements(trials_html(trials, code=trials_made.CODE))
    assert sum(one.whole() == "stale" for one in page if one.name == "span") == 1
    assert "1 stale" in next(one.whole() for one in page if one.name == "header")
    assert "stale" not in Tree(trials_html(trials)).root.whole()


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_keeps_its_contrast_on_every_shade(scheme: int) -> None:
    """WCAG 2.1 AA: 4.5 to 1."""
    for share in SHADES:
        ground = mixed(COLOURS["bad"][scheme], COLOURS["page"][scheme], share / 100)
        for ink in ("text", "quiet", "link"):
            assert contrast(COLOURS[ink][scheme], ground) >= 4.5, (ink, share)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(width: int, tmp_path: Path) -> None:
    """Everything unfolded, a matrix of many arms, and names without a place to break."""
    made = trials_made.run("stock", "WS", command="x" * 3000, evidence="e" * 300, case="c" * 120)
    for arm in range(9):
        made += trials_made.run(f"arm-{arm}-" + "y" * 30, "S", case="c" * 120)
    page = page_of(trials_made.trials(made))
    (tmp_path / "page.html").write_text(FRAME.format(width=width, page=escape(page)), encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000", "--dump-dom",
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    match = re.search(r"<title>(\d+),(\d+)</title>", done.stdout)
    assert match, done.stderr
    assert int(match[2]) == width
    assert int(match[1]) <= width
