"""The page: one file, nothing loaded, safe, accessible, and with the numbers of the JSON."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html import escape
from itertools import pairwise
from pathlib import Path

import pytest
from tests.report import samples
from tests.report.tree import Tree, assert_same_numbers, elements

from tidegate.report.gauge import gauge_svg, zone_gauges
from tidegate.report.html import SIZE_MAX_BYTES, check_html
from tidegate.report.markup import join, tag
from tidegate.report.page import COLOURS, SERIES
from tidegate.result import CheckResult, Severity, State

EVERY = [*samples.ALL, samples.hostile, samples.cured]


@pytest.mark.parametrize("sample", EVERY)
def test_the_first_line_and_the_first_words_are_verdict_and_reason(sample: Callable[[], CheckResult]) -> None:
    result = sample()
    text = check_html(result)
    assert f"<title>{result.verdict.value}: " in text.split("\n")[0]
    head = next(one for one in elements(text) if one.name == "h1").whole()
    assert head.startswith(f"{result.verdict.value} ")
    if sample is not samples.hostile:
        assert result.reason in head
        assert result.reason in text.split("\n")[0]


@pytest.mark.parametrize("sample", EVERY)
def test_nothing_is_loaded_and_nothing_runs(sample: Callable[[], CheckResult]) -> None:
    text = check_html(sample())
    for one in elements(text):
        assert one.name not in {
            "script",
            "link",
            "img",
            "image",
            "iframe",
            "object",
            "embed",
            "use",
            "base",
            "form",
        }
        assert not {"src", "srcset", "action", "data", "style", "xlink:href"} & one.attributes.keys()
        assert not any(name.startswith("on") for name in one.attributes)
        assert one.attributes.get("href", "#").startswith("#")
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "").lower()
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#hatch", "#open"}
    policy = next(one for one in elements(text) if "http-equiv" in one.attributes).attributes["content"]
    assert policy.startswith("default-src 'none'")


def test_a_hostile_host_adds_no_element() -> None:
    hostile = elements(check_html(samples.hostile()))
    tame = elements(check_html(samples.at_risk()))
    assert {one.name for one in hostile} <= {one.name for one in tame}
    assert {name for one in hostile for name in one.attributes} <= {
        name for one in tame for name in one.attributes
    }
    text = check_html(samples.hostile())
    assert "\x1b" not in text
    assert "\u202e" not in text
    shown = "x\\x1b[31m</script><img src=x onerror=alert(1)>\"'&--> \\u202eé"
    assert sum(shown in one.text for one in hostile) > 20
    assert any(shown in one.attributes.get("id", "") for one in hostile) is False


def test_markup_escapes_whatever_is_not_markup() -> None:
    assert tag("a", "<b>&", title='"<>&\n\x00') == ('<a title="&quot;&lt;&gt;&amp; \\x00">&lt;b&gt;&amp;</a>')
    assert join((tag("b", "x"), ["<", None, tag("i")])) == "<b>x</b>&lt;<i></i>"


@pytest.mark.parametrize("sample", EVERY)
def test_the_numbers_are_those_of_the_json(sample: Callable[[], CheckResult]) -> None:
    assert_same_numbers(sample())


def test_everything_of_the_result_is_on_the_page() -> None:
    result = samples.at_risk()
    whole = Tree(check_html(result)).root.whole()
    texts = [one.title for one in result.findings] + [one.why for one in result.findings]
    texts += [fact.value for one in result.findings for fact in one.evidence]
    texts += [text for one in result.plan for text in (one.id, one.path, one.why, one.lower, one.first)]
    texts += [one.text for one in result.way.steps] if result.way else []
    texts += [row.holder for row in result.reserve.rows] + [row.why for row in result.reserve.rows]
    texts += [gap.path for gap in result.gaps] + list(result.remains)
    texts += [link.name for user in result.users for link in user.chain]
    for text in texts:
        assert text in whole, text


@pytest.mark.parametrize("sample", EVERY)
def test_what_assistive_technology_needs(sample: Callable[[], CheckResult]) -> None:
    page = elements(check_html(sample()))
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
            assert any(part.attributes.get("scope") == "col" for part in inner)
        if one.name == "details":
            assert one.children[0].name == "summary"
            assert one.children[0].whole().strip()
    assert [one.name for one in page if one.name == "h1"] == ["h1"]
    assert next(one for one in page if one.name == "html").attributes["lang"] == "en"


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast(scheme: int) -> None:
    """WCAG 2.1 AA: 4.5 to 1 for text, 3 to 1 for what a drawing is made of."""
    colours = {name: pair[scheme] for name, pair in COLOURS.items()}
    for ground in ("page", "card"):
        for ink in ("text", "quiet", "link", "bad", "unsure", "good"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for ink in ("block", "net", "kept", "water"):
            assert contrast(colours[ink], colours[ground]) >= 3, (ink, ground)
        for pair in SERIES:
            assert contrast(pair[scheme], colours[ground]) >= 3, pair
    assert contrast(COLOURS["line"][scheme], colours["page"]) < 3, "lines are decoration and may be faint"


def test_a_deadlock_stands_open_and_the_rest_is_folded() -> None:
    page = elements(check_html(samples.at_risk()))
    opened = {
        one.children[0].whole()[:11] for one in page if one.name == "details" and "open" in one.attributes
    }
    assert opened == {"deadlockD1 ", "deadlockD15"}


def huge(number: int) -> CheckResult:
    base = samples.at_risk()
    user = base.users[0]
    sockets = tuple(replace(user.sockets[0], local=f"10.0.2.15:{at}") for at in range(64))
    evidence = base.findings[0].evidence * 50
    return replace(
        base,
        users=tuple(replace(user, name=f"disk /dev/nbd{at}", sockets=sockets) for at in range(number)),
        findings=tuple(
            replace(one, id=f"{one.id}.{at}", evidence=evidence) for at in range(20) for one in base.findings
        ),
        reserve=replace(base.reserve, rows=base.reserve.rows * number),
        plan=tuple(replace(one, id=f"{one.id}.{at}") for at in range(number) for one in base.plan),
        gaps=base.gaps * number,
    )


@pytest.mark.parametrize("number", [10, 500, 5000])
def test_no_host_makes_a_page_that_is_too_large(number: int) -> None:
    text = check_html(huge(number))
    assert len(text.encode()) <= SIZE_MAX_BYTES == 1_000_000
    Tree(text)
    if number >= 500:
        assert f"and {number - 4:,} more users" in text or "more users, all of them in check --json" in text


def test_gauges_show_each_zone_and_their_sum() -> None:
    reserve = samples.at_risk().reserve
    together, dma, dma32 = zone_gauges(reserve)
    assert together.need == reserve.need_pages
    assert together.exclusive == reserve.exclusive_pages == 358
    # 12 + 188 of DMA and 158 of DMA32: where GFP_ATOMIC stops over both zones is what is exclusive.
    assert next(level.at for level in together.levels if level.word == "floor") == 358
    assert [level.at for level in dma.levels] == [188, 200, 221, 229, 237]
    assert [level.word for level in dma32.levels] == ["floor", "min", "low", "high"]


def test_a_zone_that_ordinary_requests_cannot_enter_is_full_of_reserve() -> None:
    reserve = samples.at_risk().reserve
    dma = replace(reserve.zones[0], lowmem_reserve=3907, floor=3840, exclusive=3840)
    gauge = zone_gauges(replace(reserve, zones=(dma,)))[0]
    assert {level.at for level in gauge.levels} == {3840}
    Tree(gauge_svg(gauge))


def test_gauge_labels_never_cover_each_other() -> None:
    reserve = samples.at_risk().reserve
    for need in (0, 1, 358, 10**9, None):
        for free in (0, 170, 10**7):
            zones = tuple(replace(zone, free=free) for zone in reserve.zones)
            for gauge in zone_gauges(replace(reserve, zones=zones, need_pages=need)):
                svg = Tree(gauge_svg(gauge)).root.children[0]
                height = float(svg.attributes["height"])
                rows = [float(one.attributes["y"]) for one in svg.children if one.name == "text"]
                labels = sorted(
                    float(one.attributes["y"])
                    for one in svg.children
                    if one.name == "text" and float(one.attributes["x"]) > 150
                )
                assert all(0 < row <= height for row in rows)
                assert all(b - a >= 18 for a, b in pairwise(labels)), labels
                for one in svg.children:
                    if one.name == "rect":
                        assert float(one.attributes["height"]) >= 0
                        assert float(one.attributes["y"]) >= 0


def test_a_host_with_nothing_to_say_still_makes_a_page() -> None:
    base = samples.safe()
    bare = replace(
        base, findings=(), reserve=replace(base.reserve, zones=(), exclusive_pages=None), conditions=()
    )
    Tree(check_html(bare))
    unknown = replace(base, findings=tuple(replace(one, state=State.UNKNOWN) for one in base.findings))
    assert "cannot be told" in check_html(unknown)
    assert any(one.severity is Severity.DEADLOCK for one in unknown.findings)


# In a browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# A window of chromium cannot be narrower than 500 pixels; a frame in it can.
FRAME = """<!doctype html><title>not measured</title>
<iframe id="frame" width="{width}" height="900" style="border: 0" srcdoc="{page}"></iframe>
<script>
onload = () => {{
  const inner = document.getElementById("frame").contentDocument;
  inner.querySelectorAll("details").forEach(one => one.open = true);
  document.title = [inner.documentElement.scrollWidth, inner.defaultView.innerWidth].join();
}}
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("sample", [samples.at_risk, samples.hostile, samples.cannot_tell])
def test_nothing_is_wider_than_the_window(
    sample: Callable[[], CheckResult], width: int, tmp_path: Path
) -> None:
    """Everything unfolded, and with names as long as an iSCSI name may be and longer."""
    base = sample()
    user = replace(base.users[0], name="mount /" + "x" * 300, note="iqn." + "y" * 223)
    text = check_html(replace(base, users=(user,)))
    wrapper = FRAME.format(width=width, page=escape(text))
    (tmp_path / "page.html").write_text(wrapper, encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,1000",
            "--dump-dom",
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    match = re.search(r"<title>(\d+),(\d+)</title>", done.stdout)
    assert match, done.stderr
    assert int(match[2]) == width
    assert int(match[1]) <= width
