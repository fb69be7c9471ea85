"""The page of a run: one file, nothing loaded, safe, accessible; pictures that show what the numbers say."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report import simulated
from tests.report.test_html import CHROMIUM, FRAME, contrast
from tests.report.tree import Element, Tree, elements

from tidegate.report.json import to_json
from tidegate.report.page import COLOURS, SERIES, _style
from tidegate.report.schema import json_schema
from tidegate.report.simulate_html import simulate_html
from tidegate.report.simulate_svg import bands, knots, last_pages_svg, progress_svg, stack_svg, thinned
from tidegate.report.simulate_words import command_words, time_words, told_run
from tidegate.report.svg import COLOURS as MOST_SERIES
from tidegate.simulation import Run, Simulated, Word

SAMPLES = pytest.mark.parametrize("sample", simulated.EVERY)
PICTURES = (stack_svg, last_pages_svg, progress_svg)
LOADS = {"script", "link", "img", "image", "iframe", "object", "embed", "use", "base", "form", "style"}


@SAMPLES
def test_the_first_line_and_the_first_words_are_word_and_claim(sample: Callable[[], Simulated]) -> None:
    result = sample()
    text = simulate_html(result)
    assert f"<title>{result.word}: case " in text.split("\n")[0]
    head = next(one for one in elements(text) if one.name == "h1").whole()
    assert head.startswith(f"{result.word} in {result.k} of {result.n} seed")
    if sample is not simulated.hostile:
        assert head.endswith(f": {result.claim}.")


@SAMPLES
def test_nothing_is_loaded_and_nothing_runs(sample: Callable[[], Simulated]) -> None:
    text = simulate_html(sample())
    found = elements(text)
    assert [one.name for one in found if one.name in LOADS] == ["style"]
    for one in found:
        assert not {"src", "srcset", "action", "data", "style", "xlink:href"} & one.attributes.keys()
        assert not any(name.startswith("on") for name in one.attributes)
        assert one.attributes.get("href", "#").startswith("#")
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "").lower()
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#hatch", "#open"}
    policy = next(one for one in found if "http-equiv" in one.attributes).attributes["content"]
    assert policy.startswith("default-src 'none'")


def test_a_hostile_case_adds_no_element() -> None:
    text = simulate_html(simulated.hostile())
    hostile, tame = elements(text), elements(simulate_html(simulated.stuck()))
    assert {one.name for one in hostile} <= {one.name for one in tame}
    assert {name for one in hostile for name in one.attributes} <= {
        name for one in tame for name in one.attributes
    }
    assert "\x1b" not in text
    assert "\u202e" not in text
    shown = "x\\x1b[31m</script><img src=x onerror=alert(1)>\"'&--> \\u202eé"
    assert sum(shown in one.text for one in hostile) > 20


def resolve(value: Any, pointer: str) -> Any:
    """RFC 6901."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def test_the_numbers_are_those_of_the_json() -> None:
    for sample in simulated.ALL:
        result = sample()
        value = json.loads(to_json(result))
        shown: dict[str, list[Element]] = {}
        for one in elements(simulate_html(result)):
            if "data-at" in one.attributes:
                shown.setdefault(one.attributes["data-at"], []).append(one)
        for pointer, found in shown.items():
            expected = resolve(value, pointer)
            for one in found:
                if isinstance(expected, int):
                    assert int(one.attributes["value"]) == expected, pointer
                    if pointer.endswith("_ns") and not pointer.endswith("page_ns"):
                        assert one.whole() == time_words(expected)
                    elif not pointer.endswith("page_ns"):
                        assert one.whole().split(" ")[0] == f"{expected:,}"
                elif expected is None:
                    assert (one.name, one.whole()) == ("span", "never")
                else:
                    assert str(expected) in one.whole(), pointer
        at = f"/runs/{result.runs.index(told_run(result))}"
        wanted = {"/word", "/claim", "/k", "/n", f"{at}/reason", f"{at}/gap_ns", f"{at}/low_water/free"}
        for place, _ in enumerate(told_run(result).users):
            wanted |= {
                f"{at}/users/{place}/{name}" for name in ("admitted", "completed", "waiting", "gap_ns")
            }
        for place, _ in enumerate(told_run(result).holdings):
            wanted |= {f"{at}/holdings/{place}/{name}" for name in ("page_ns", "longest_ns", "packets")}
        wanted |= {f"{at}/{name}_pages" for name in ("wmark_min", "wmark_low", "wmark_high", "atomic_floor")}
        assert wanted <= shown.keys()
        assert sum("/samples/" in pointer for pointer in shown) >= 3 * (len(simulated.HOLDERS) + 2)


def test_the_table_shows_the_moments_that_decide() -> None:
    for sample, moments in (
        (
            simulated.stuck,
            ["start (0)", "fewest free (130 ms)", "last completion (160 ms)", "end of the storm (2 s)"],
        ),
        (
            simulated.seen,
            ["start (0)", "fewest free (970 ms)", "end of the storm (2 s)", "end, last completion (2.1 s)"],
        ),
    ):
        result = sample()
        run = told_run(result)
        page = elements(simulate_html(result))
        table = next(
            one for one in page if one.name == "table" and "Pages by holder" in one.children[0].whole()
        )
        heads = [one.whole() for one in table.walk() if one.attributes.get("scope") == "col"]
        assert heads[1:5] == moments
        free = next(one for one in table.walk() if one.name == "tr" and one.whole().startswith("free"))
        assert min(one.held[0] for one in run.samples) == int(free.children[2].whole())


def test_everything_of_the_result_is_on_the_page() -> None:
    for sample in simulated.ALL:
        result = sample()
        run = told_run(result)
        whole = Tree(simulate_html(result)).root.whole()
        texts = [result.claim, run.reason, command_words(result)]
        texts += [text for one in run.milestones for text in (one.text, time_words(one.time_ns))]
        texts += [one.holder for one in run.holdings] + [user.name for user in run.users]
        texts += [*run.drops, *run.foreign, *run.steps, *run.holders]
        texts += [f"{packets:,}" for packets in (*run.drops.values(), *run.block_drops.values())]
        for text in texts:
            assert text in whole, text


@SAMPLES
def test_what_assistive_technology_needs(sample: Callable[[], Simulated]) -> None:
    page = elements(simulate_html(sample()))
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
def test_the_page_is_what_the_json_schema_describes(sample: Callable[[], Simulated]) -> None:
    import jsonschema

    jsonschema.Draft202012Validator(json_schema("simulate")).validate(json.loads(to_json(sample())))


# Colours


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast_of_what_the_pictures_are_made_of(scheme: int) -> None:
    """WCAG 2.1 AA: lines and areas 3 to 1 against what lies beside them; a rim of the page's colour is what does."""
    page = COLOURS["page"][scheme]
    for name in ("text", "bad", "good", "water"):
        assert contrast(COLOURS[name][scheme], page) >= 3, name
    for pair in SERIES:
        assert contrast(pair[scheme], page) >= 3, pair
    # The ground of the calm: quiet, 16 in 100, over the page.
    ground = mixed(COLOURS["quiet"][scheme], page, 0.16)
    water = mixed(COLOURS["water"][scheme], page, 0.35)
    for name in ("text", "bad", "good"):
        assert contrast(COLOURS[name][scheme], ground) >= 3, name
    assert contrast(COLOURS["text"][scheme], water) >= 3


def mixed(colour: str, ground: str, share: float) -> str:
    parts = [
        round(int(colour[at : at + 2], 16) * share + int(ground[at : at + 2], 16) * (1 - share))
        for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in parts)


def test_the_style_sheet_says_what_the_contrast_test_rests_on() -> None:
    style = _style()
    assert "svg .calm { fill: var(--quiet); fill-opacity: .16 }" in style
    assert "svg .water { fill: var(--water); fill-opacity: .35 }" in style
    assert "svg .rim { fill: none; stroke: var(--page); stroke-width: 4;" in style


@pytest.mark.parametrize("picture", PICTURES)
def test_every_line_over_an_area_has_a_rim(picture: Callable[[Run], Any]) -> None:
    paths = [one for one in elements(picture(simulated.stuck_run())) if one.name == "path"]
    lines = {"mark", "mark floor", "mark level", "moment", "out", "done"}
    found = [(one, before) for before, one in pairwise(paths) if one.attributes["class"] in lines]
    assert found
    for one, before in found:
        assert before.attributes == {"d": one.attributes["d"], "class": "rim"}


@pytest.mark.parametrize("sample", simulated.EVERY)
def test_every_class_is_in_the_style_sheet(sample: Callable[[], Simulated]) -> None:
    style = _style()
    for one in elements(simulate_html(sample())):
        for name in one.attributes.get("class", "").split():
            assert re.search(rf"\.{name}\b", style), name


# The pictures


def points(path: Element) -> list[tuple[float, float]]:
    numbers = [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", path.attributes["d"])]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def areas(svg: str) -> dict[str, list[tuple[float, float]]]:
    return {
        one.children[0].text.partition(":")[0]: points(one)
        for one in elements(svg)
        if one.name == "path" and "band" in one.attributes["class"]
    }


def test_the_stack_is_one_polygon_a_holder_with_free_pages_at_the_bottom() -> None:
    run = simulated.stuck_run()
    found = areas(stack_svg(run))
    assert list(found) == ["free", *(name for name in run.holders if name != "free")]
    assert {y for _, y in found["free"][len(found["free"]) // 2 :]} == {300.0}
    assert found["programs"][0][1] == 0
    for below, above in pairwise(found.values()):
        half = len(below) // 2
        assert below[:half] == above[half:][::-1]


def test_heights_are_the_pages() -> None:
    run = simulated.stuck_run()
    shown = thinned(run)
    found = areas(stack_svg(run))
    for (_, top), one in zip(found["free"], shown, strict=False):
        assert top == pytest.approx(300 - 300 * one.held[0] / run.pages, abs=0.06)


def horizontal(svg: str, class_: str) -> list[float]:
    return [
        points(one)[0][1] for one in elements(svg) if one.name == "path" and one.attributes["class"] == class_
    ]


def test_watermarks_lie_at_their_height_of_free_pages() -> None:
    run = simulated.stuck_run()
    top = 1.6 * run.wmark_high_pages
    svg = last_pages_svg(run)
    marks = [run.wmark_high_pages, run.wmark_low_pages, run.wmark_min_pages]
    assert horizontal(svg, "mark") == [pytest.approx(200 - 200 * pages / top, abs=0.06) for pages in marks]
    assert horizontal(svg, "mark floor") == [
        pytest.approx(200 - 200 * run.atomic_floor_pages / top, abs=0.06)
    ]
    stack = stack_svg(run)
    assert pytest.approx(300 - 300 * run.wmark_min_pages / run.pages, abs=0.06) in horizontal(stack, "mark")
    # Where all four would run into each other, min goes first.
    close = replace(run, pages=20_000)
    assert horizontal(stack_svg(close), "mark") == [pytest.approx(300 - 300 * 171 / 20_000, abs=0.06)]
    assert len(horizontal(last_pages_svg(close), "mark")) == 3


def test_a_curve_that_leaves_the_picture_is_cut_where_it_crosses() -> None:
    run = simulated.seen_run()
    svg = last_pages_svg(run)
    line = next(one for one in elements(svg) if one.attributes.get("class") == "mark level")
    found = points(line)
    assert min(y for _, y in found) == 0
    first_below = next(at for at, (_, y) in enumerate(found) if y > 0)
    before, after = found[first_below - 1], found[first_below]
    later = found[first_below + 1]
    slope = (after[1] - before[1]) / (after[0] - before[0])
    assert slope == pytest.approx((later[1] - after[1]) / (later[0] - after[0]), rel=0.1)


def test_the_moments_that_decide_are_marked() -> None:
    for sample, words in (
        (simulated.stuck_run, ["last completion", "end of the storm", "judged STUCK"]),
        (simulated.lucky_run, ["last completion", "end of the storm"]),
        (simulated.seen_run, ["end of the storm", "last completion"]),
    ):
        run = sample()
        for picture in PICTURES:
            svg = elements(picture(run))
            texts = [one.text for one in svg if one.name == "text"]
            assert [text for text in texts if text in set(words)] == words
            lines = [one for one in svg if one.attributes.get("class") == "moment"]
            assert len(lines) == len(words)
    assert "end of the storm" in stack_svg(replace(simulated.seen_run(), milestones=()))


def test_time_runs_on_whatever_the_scale() -> None:
    run = simulated.stuck_run()
    assert knots(run) == ((0, 0.0), (210_560_000, 337.5), (2_000_000_000, 750.0), (242_000_000_000, 1000.0))
    run = simulated.lucky_run()
    unnamed = tuple(one for one in run.milestones if one.id != "last_completion")
    assert (
        knots(replace(run, milestones=unnamed))[1][0] == 133_000_000
    )  # 1.4 times min_reached, the last new thing
    assert len(knots(simulated.seen_run())) == 2
    text = simulate_html(simulated.stuck())
    assert "Time changes its scale at 211 ms and at 2 s." in text
    assert "changes its scale" not in simulate_html(simulated.seen())


MOMENT = st.integers(0, 10**12)


@settings(max_examples=200)
@given(MOMENT, MOMENT, MOMENT, MOMENT)
def test_places_follow_time(storm_ns: int, end_ns: int, last_ns: int, other_ns: int) -> None:
    from tidegate.report.simulate_svg import _x

    moment = replace(simulated.stuck_run().milestones[4], time_ns=last_ns)
    run = replace(simulated.stuck_run(), storm_ns=storm_ns, end_ns=end_ns, milestones=(moment,), samples=())
    times = sorted((0, storm_ns, last_ns, other_ns, end_ns))
    places = [_x(run, time_ns) for time_ns in times]
    assert places == sorted(places)
    assert all(0 <= place <= 1000 for place in places)
    for picture in PICTURES:
        Tree(picture(run))


def test_labels_never_cover_each_other_and_stay_in_the_picture() -> None:
    for low, pages in ((1, 8), (171, 4096), (171, 400), (20_000, 1_000_000)):
        run = replace(
            simulated.stuck_run(),
            pages=pages,
            atomic_floor_pages=low * 3 // 8,
            wmark_min_pages=low,
            wmark_low_pages=low * 5 // 4,
            wmark_high_pages=low * 3 // 2,
        )
        for picture in PICTURES:
            svg = Tree(picture(run)).root.children[0]
            group = next(one for one in svg.children if one.attributes.get("transform"))
            rows = sorted(float(one.attributes["y"]) for one in group.children if one.name == "text")
            assert all(b - a >= 13.9 for a, b in pairwise(rows)), rows
            assert rows[0] >= 0
            times = [
                float(one.attributes["x"].rstrip("%"))
                for one in svg.children
                if one.name == "text" and one.attributes["x"].endswith("%")
            ]
            assert all(b - a >= 10.9 for a, b in pairwise(times)), times
            assert (times[0], times[-1]) == (0, 100)


def many_holders(number: int) -> Run:
    run = simulated.stuck_run()
    holders = ("free", *(f"holder{at}" for at in range(number)))
    samples = tuple(replace(one, held=(100, *((at + 1) * 10 for at in range(number)))) for one in run.samples)
    return replace(run, holders=holders, samples=samples, pages=sum(samples[0].held))


@pytest.mark.parametrize("number", [1, 7, 8, 9, 16, 40])
def test_no_two_holders_have_one_colour(number: int) -> None:
    run = many_holders(number)
    found = bands(run, run.samples)
    looks = [band.look for band in found]
    assert len(set(looks)) == len(looks) <= MOST_SERIES + 1
    assert all(sum(band.held[at] for band in found) == run.pages for at in (0, -1))
    if number > MOST_SERIES:
        assert found[-1].name == f"{number - 7} other holders"


def test_free_pages_lie_at_the_bottom_wherever_they_are_named() -> None:
    run = simulated.stuck_run()
    turned = replace(
        run,
        holders=run.holders[::-1],
        samples=tuple(replace(one, held=one.held[::-1]) for one in run.samples),
    )
    assert bands(turned, turned.samples)[0] == bands(run, run.samples)[0]
    assert last_pages_svg(turned) == last_pages_svg(run)


def long_run() -> Run:
    run = simulated.seen_run()
    samples = tuple(
        replace(
            run.samples[0], time_ns=at * run.end_ns // 20_000, held=(900 - at % 7, *run.samples[0].held[1:])
        )
        for at in range(20_001)
    )
    least = replace(samples[12_345], held=(3, *samples[0].held[1:]))
    return replace(run, samples=(*samples[:12_345], least, *samples[12_346:]))


def test_a_long_run_keeps_its_ends_and_its_lowest_water() -> None:
    run = long_run()
    shown = thinned(run)
    assert len(shown) <= 500
    assert (shown[0], shown[-1]) == (run.samples[0], run.samples[-1])
    assert min(one.held[0] for one in shown) == 3
    assert all(one.time_ns < other.time_ns for one, other in pairwise(shown))
    assert len(simulate_html(replace(simulated.seen(), runs=(run,))).encode()) < 300_000


def test_a_hundred_thousand_seeds_make_no_page_that_is_too_large() -> None:
    base = simulated.stuck()
    rest = replace(base.runs[2], samples=(), milestones=())
    many = replace(base, runs=(*base.runs, *(rest for _ in range(20_000))), n=20_003, k=20_002)
    text = simulate_html(many)
    assert len(text.encode()) < 1_000_000
    assert "and 19,803 more seeds, all of them in simulate --json" in text


@pytest.mark.parametrize("word", list(Word))
def test_every_word_and_little_of_everything_makes_a_page(word: Word) -> None:
    base = simulated.seen()
    run = base.runs[0]
    for one in (
        run,
        replace(run, samples=run.samples[:1], end_ns=0, storm_ns=0, complete_ns=None, clear_ns=None),
        replace(run, samples=run.samples[:1], wmark_min_pages=0, atomic_floor_pages=0, milestones=()),
    ):
        result = replace(base, word=word, runs=(replace(one, word=word),))
        page = simulate_html(result)
        assert page.split("\n")[0].find(f"<title>{word}: ") > 0
        Tree(page)


def test_without_samples_there_is_no_picture_and_no_link_to_it() -> None:
    page = elements(simulate_html(simulated.bare()))
    assert [one for one in page if one.name == "svg" and "aria-hidden" not in one.attributes] == []
    assert "#picture" not in {one.attributes.get("href") for one in page}


# In a browser


def wide_and_narrow() -> Iterator[tuple[Simulated, int]]:
    for sample in (simulated.stuck, simulated.hostile):
        for width in (390, 1280):
            yield sample(), width


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)")
def test_nothing_is_wider_than_the_window(tmp_path: Path) -> None:
    for result, width in wide_and_narrow():
        run = told_run(result)
        user = replace(run.users[0], name="swap" + "x" * 300)
        page = simulate_html(replace(result, runs=(replace(run, users=(user,)),)))
        (tmp_path / "page.html").write_text(FRAME.format(width=width, page=escape(page)), encoding="utf-8")
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
