"""The judge: one word of many runs, the smallest reserve, and what is stored of it."""

from __future__ import annotations

import ast
import pickle
import shutil
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import made_runs

import tidegate
from tidegate.case import Case, parse_case
from tidegate.design import Design
from tidegate.designs import design
from tidegate.errors import BadInput, Lacking, Unsupported, Usage
from tidegate.judge import listed, stored
from tidegate.judge.arms import seeds_of, simulate_arm, simulate_tried, worst_word
from tidegate.judge.reserves import smallest_reserve, smallest_surviving
from tidegate.judge.seeds import Task, runner
from tidegate.judge.side_by_side import compare, most_reserve_pages
from tidegate.judge.tried import named_arm, tried_arm, tried_design
from tidegate.simulation import Run, Word

PACKAGE = Path(tidegate.__file__).parent


@pytest.fixture(autouse=True)
def made_mechanism(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tidegate.sim.run", made_runs)


def case(name: str = "storm") -> Case:
    return parse_case(made_runs.CASE.encode(), f"{name}.toml")


# One word of many runs.


@pytest.mark.parametrize(
    ("arm", "word", "k", "n", "met"),
    [
        ("bare", Word.STUCK, 1, 4, True),
        ("mail", Word.SEEN, 4, 4, True),
        ("no discard", Word.STUCK, 1, 4, True),
        ("small", Word.STUCK, 2, 2, None),
        ("coin", Word.LUCKY, 2, 4, False),
    ],
)
def test_the_word_is_the_worst_of_the_seeds(arm: str, word: Word, k: int, n: int, met: bool | None) -> None:
    result = simulate_arm(case(), named_arm(case(), arm))
    assert (result.word, result.k, result.n, result.met) == (word, k, n, met)
    assert [run.seed for run in result.runs] == list(range(1, n + 1))


def test_stuck_is_worse_than_lucky() -> None:
    order = [Word.SEEN, Word.REFUSED, Word.LUCKY, Word.STUCK]
    runs = [replace(made_runs.RUNS[Word.SEEN], word=word) for word in order]
    assert [worst_word(runs[: number + 1]) for number in range(4)] == order


def test_samples_are_kept_of_the_first_run_that_earned_the_word() -> None:
    result = simulate_arm(case(), named_arm(case(), "bare"))
    assert [bool(run.samples) for run in result.runs] == [False, False, True, False]
    with runner(1) as run_tasks:
        tried = tried_arm(case(), named_arm(case(), "bare"))
        assert not any(run.samples for run in simulate_tried(tried, range(4), run_tasks, sampled=False).runs)


def test_a_run_that_differs_the_second_time_is_our_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate = made_runs.simulate

    def forgetful(one: Case, design: Design, seed: int, *, sampled: bool, **_: object) -> Run:
        run = simulate(one, design, seed, sampled=sampled)
        return replace(run, end_ns=run.end_ns + sampled)

    monkeypatch.setattr(made_runs, "simulate", forgetful)
    with pytest.raises(AssertionError, match="seed 3: not the same twice"):
        simulate_arm(case(), named_arm(case(), "bare"))


def test_an_invariant_that_does_not_hold_names_the_run() -> None:
    for jobs in (1, 2):
        with pytest.raises(AssertionError, match="broken, design bare, seed 3: 3 pages are free and 4"):
            simulate_arm(case("broken"), design("bare"), jobs=jobs)


def test_which_seeds() -> None:
    one = case()
    assert seeds_of(one) == range(1, 5)
    assert seeds_of(one, start=7) == range(7, 8)
    assert seeds_of(one, many=9) == range(1, 10)
    assert seeds_of(one, start=7, many=2) == range(7, 9)


def test_more_cores_change_nothing() -> None:
    arm = named_arm(case(), "bare")
    assert simulate_arm(case(), arm, range(12), jobs=2) == simulate_arm(case(), arm, range(12))


def test_runs_come_in_order_and_may_be_left_early() -> None:
    tasks = [Task(case=case(), design=design("bare"), seed=seed) for seed in range(9)]
    with runner(2) as run_tasks:
        with closing(run_tasks(tasks)) as runs:
            assert [next(runs).seed, next(runs).seed] == [0, 1]
        assert [run.seed for run in run_tasks(tasks[3:])] == [3, 4, 5, 6, 7, 8]


def test_a_worker_that_is_killed_is_said() -> None:
    with pytest.raises(Lacking, match="ended from outside"):
        simulate_arm(case("killed"), design("bare"), jobs=2)


# What is run.


def test_an_arm_brings_its_changes() -> None:
    tried = tried_arm(case(), named_arm(case(), "small"))
    assert (tried.case.machine.reserve_pages, tried.expected, tried.arm) == (8, None, "small")
    assert tried_arm(case(), named_arm(case(), "no discard")).design.discard is False


def test_a_design_is_expected_to_do_what_its_arm_does() -> None:
    assert tried_design(case(), design("mail")).expected == "SEEN"
    assert tried_design(case(), design("mail"), "discard").arm == "no discard"
    assert tried_design(case(), design("mail"), "discard").expected == "STUCK"
    other = tried_design(case(), design("mail"), "throttle")
    assert (other.arm, other.expected, other.design.name) == ("", None, "mail without throttle")
    assert (other.left_out, tried_design(case(), design("mail"), "discard").left_out) == (("throttle",), ())


def test_an_arm_with_less_is_expected_to_do_nothing_in_particular() -> None:
    assert tried_arm(case(), named_arm(case(), "mail"), "throttle").expected is None
    assert tried_arm(case(), named_arm(case(), "mail"), "discard").expected == "STUCK"
    small = tried_arm(case(), named_arm(case(), "small"), "discard")
    assert (small.expected, small.arm, small.case.machine.reserve_pages) == (None, "small", 8)
    with runner(1) as run_tasks:
        assert simulate_tried(small, [1], run_tasks).left_out == ("discard",)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("mial",), "storm: no arm 'mial'; did you mean mail"),
        (("zzz",), "storm: no arm 'zzz'; there are bare, mail"),
        (("mail", "disard"), "no switch 'disard'; did you mean discard"),
        (("bare", "discard"), "design bare has no discard to leave out"),
    ],
)
def test_an_unknown_word_names_the_nearest(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(Usage, match=says):
        tried_arm(case(), named_arm(case(), words[0]), *words[1:])


def test_an_arm_whose_design_is_unknown_is_named() -> None:
    text = made_runs.CASE.replace('design = "random_drop"', 'design = "random"')
    odd = parse_case(text.encode(), "storm.toml")
    with pytest.raises(Usage, match="storm: arm 'coin': no design 'random'"):
        tried_arm(odd, named_arm(odd, "coin"))


# The smallest reserve.


@given(least=st.integers(1, 300), most=st.integers(0, 300))
def test_the_smallest_is_found_where_more_is_never_worse(least: int, most: int) -> None:
    found = smallest_surviving(lambda pages: pages >= least, most)
    assert found == (least if least <= most else None)


@given(good=st.frozensets(st.integers(1, 60)), most=st.integers(0, 60))
def test_what_is_found_is_looked_at_from_both_sides(good: frozenset[int], most: int) -> None:
    asked: list[int] = []

    def survives(pages: int) -> bool:
        asked.append(pages)
        return pages in good

    found = smallest_surviving(survives, most)
    assert len(asked) == len(set(asked))
    assert all(1 <= pages <= most for pages in asked)
    if found is not None:
        assert found in good
        assert found == most or found + 1 in good
        islands = {pages for pages in good if pages + 1 not in good}
        assert {found - 1, found - 2} & good <= islands


@pytest.mark.parametrize(
    ("good", "found"),
    [
        ({40, 41, 42, *range(44, 99)}, 40),  # a hole above it is not looked for
        ({7, *range(40, 99)}, 40),  # galloping meets the island at 7
        ({38, *range(40, 99)}, 40),  # two below it survives, and is an island
        ({38, 39, *range(41, 99)}, 38),
    ],
)
def test_survival_that_is_not_monotone(good: set[int], found: int) -> None:
    assert smallest_surviving(good.__contains__, 98) == found


@pytest.mark.parametrize(("most", "found"), [(4096, 40), (1 << 40, 40), (40, 40), (39, None), (0, None)])
def test_the_smallest_reserve_of_a_design(most: int, found: int | None) -> None:
    assert smallest_reserve(case(), design("mail"), range(3), most) == found


def test_the_worst_is_looked_for_among_all_seeds() -> None:
    assert smallest_reserve(case(), design("bare"), [1, 2], 64) == 1
    assert smallest_reserve(case(), design("bare"), [1, 2, 3], 64) is None


def test_luck_is_no_survival() -> None:
    assert smallest_reserve(case(), design("random_drop"), range(3), 64) is None
    assert smallest_reserve(case(), design("random_drop"), [1, 3], 64) == 1


def test_designs_are_compared_best_first() -> None:
    designs = [design(name) for name in ("bare", "random_drop", "mail")]
    told: list[str] = []
    compared = compare(case(), designs, range(1, 7), tell=told.append)
    assert [(row.design, row.word, row.k, row.n, row.reserve_pages) for row in compared.rows] == [
        ("mail", Word.SEEN, 6, 6, 40),
        ("random_drop", Word.LUCKY, 3, 6, None),
        ("bare", Word.STUCK, 2, 6, None),
    ]
    assert {row.searched_pages for row in compared.rows} == {most_reserve_pages(case())} == {1024}
    assert (compared.n, compared.reserve_pages) == (6, 64)
    mail, _, bare = compared.rows
    seen, stuck = made_runs.RUNS[Word.SEEN], made_runs.RUNS[Word.STUCK]
    assert (mail.complete_ns, mail.clear_ns, bare.complete_ns) == (seen.complete_ns, seen.clear_ns, None)
    assert bare.free_low_pages == stuck.low_water["free"]
    dropped = 2 * stuck.foreign["dropped"] + 4 * seen.foreign["dropped"]
    assert bare.foreign_lost_percent == round(100 * dropped / 240_000, 2)
    assert told[-2:] == ["mail (3 of 3): 6 seeds", "mail (3 of 3): the smallest reserve, up to 1024 pages"]


# What is stored.


def judged(
    one: Case, names: tuple[str, ...] = ("bare", "mail", "no discard", "small", "coin")
) -> list[stored.Stored]:
    arms = [named_arm(one, name) for name in names]
    return [stored.stored_arm(one, arm, simulate_arm(one, arm)) for arm in arms]


def changed(one: Case, old: str, new: str) -> Case:
    assert made_runs.CASE.count(old) == 1, old
    return parse_case(made_runs.CASE.replace(old, new).encode(), f"{one.name}.toml")


def test_what_is_stored_is_read_back(tmp_path: Path) -> None:
    assert stored.read_results(tmp_path) == {}
    stored.store_results(tmp_path, "storm", judged(case()))
    results = stored.read_results(tmp_path)
    assert list(results) == [("storm", name) for name in ("bare", "coin", "mail", "no discard", "small")]
    one = results["storm", "no discard"]
    assert (one.design, one.word, one.k, one.n) == ("mail without discard", "STUCK", 1, 4)
    assert [path.name for path in tmp_path.rglob("*")] == ["results", "simulate.jsonl"]
    listing = listed.cases([listed.case_state(case(), results)])
    assert (listing.disagreements, listing.stale, listing.missing) == (1, 0, 0)
    agrees = {arm.name: arm.agrees for arm in listing.cases[0].arms}
    assert agrees == {"bare": True, "mail": True, "no discard": True, "small": None, "coin": False}


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("[run]\nseeds = 4", "[run]\nseeds = 5", {"bare", "mail", "no discard", "coin"}),
        ("\nreserve_pages = 64", "\nreserve_pages = 63", {"bare", "mail", "no discard", "coin"}),
        ("set.machine.reserve_pages = 8", "set.machine.reserve_pages = 9", {"small"}),
        ('without = ["discard"]', 'without = ["throttle"]', {"no discard"}),
        ('design = "random_drop"', 'design = "patch"', {"coin"}),
        ("A storm stops", "No storm stops", set()),
        ("a sentence of", "another sentence of", set()),
        ('design = "mail"\nexpect.simulate = "SEEN"', 'design = "mail"\nwhy = "so"', set()),
    ],
)
def test_a_result_is_stale_when_what_decides_it_has_changed(old: str, new: str, stale: set[str]) -> None:
    results = {(one.case, one.arm): one for one in judged(case())}
    state = listed.case_state(changed(case(), old, new), results)
    assert {arm.name for arm in state.arms if arm.stale} == stale
    assert all(arm.agrees is None for arm in state.arms if arm.stale)


def test_a_result_is_stale_when_the_code_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = {(one.case, one.arm): one for one in judged(case())}
    monkeypatch.setattr(stored, "code_key", lambda: "other code")
    listing = listed.cases([listed.case_state(case(), results)])
    assert (listing.disagreements, listing.stale, listing.missing) == (0, 5, 0)
    assert listing.cases[0].arms[0].found == {"simulate": "STUCK"}


@pytest.mark.parametrize("name", ["sim/clock.py", "designs/mail.py", "need.py", "design.py", "case.py"])
def test_the_code_key_sees_every_source_that_decides(name: str, tmp_path: Path) -> None:
    package = tmp_path / "tidegate"
    for path in stored.deciding_sources(PACKAGE):
        target = package / path.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    assert stored.source_key(package) == stored.code_key()
    (package / "report.py").write_text("# decides nothing")
    assert stored.source_key(package) == stored.code_key()
    with (package / name).open("a") as source:
        source.write("\n")
    assert stored.source_key(package) != stored.code_key()


def test_no_source_that_decides_is_forgotten() -> None:
    """What they import of ours is among them, or holds no rule of a run."""
    no_rules = {"case_trial", "errors", "simulation", "trace"}
    sources = stored.deciding_sources(PACKAGE)
    keyed = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in sources}
    imported = {
        node.module.split(".")[1]
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tidegate.")
    }
    assert imported - keyed - no_rules == set()
    assert {"sim", "designs", "design", "case", "need"} <= keyed


def test_an_arm_without_a_result_is_missing() -> None:
    results = {(one.case, one.arm): one for one in judged(case(), ("bare", "mail"))}
    listing = listed.cases([listed.case_state(case(), results)])
    assert (listing.disagreements, listing.stale, listing.missing) == (0, 0, 3)
    assert listing.cases[0].arms[4].agrees is None


def test_to_run_are_all_or_those_without_a_fresh_result() -> None:
    one = changed(case(), "set.machine.reserve_pages = 8", "set.machine.reserve_pages = 9")
    results = {(it.case, it.arm): it for it in judged(case()) if it.arm != "coin"}
    assert [arm.name for arm in listed.to_run(one, results, stale_only=True)] == ["small", "coin"]
    assert len(listed.to_run(one, results, stale_only=False)) == 5


def test_cases_in_one_file_do_not_touch_each_other(tmp_path: Path) -> None:
    stored.store_results(tmp_path, "storm", judged(case()))
    stored.store_results(tmp_path, "calm", judged(case("calm"), ("bare",)))
    stored.store_results(tmp_path, "storm", judged(case(), ("mail",)))
    assert list(stored.read_results(tmp_path)) == [("calm", "bare"), ("storm", "mail")]
    stored.forget_others(tmp_path, {"storm"})
    assert list(stored.read_results(tmp_path)) == [("storm", "mail")]


def test_the_file_is_the_same_for_the_same_results(tmp_path: Path) -> None:
    found = judged(case())
    stored.store_results(tmp_path, "storm", found)
    first = stored.results_file(tmp_path).read_bytes()
    stored.store_results(tmp_path, "storm", found[::-1])
    assert stored.results_file(tmp_path).read_bytes() == first
    assert [list(msgspec.json.decode(line)) for line in first.splitlines()] == [
        ["arm", "case", "design", "k", "key", "n", "word"]
    ] * 5


@pytest.mark.parametrize(
    "line", [b"<<<<<<< HEAD", b"{}", b'{"case": 3}', b"\xff", b"", b'{"a": 1, "case": "x"}']
)
def test_a_damaged_file_names_the_line(tmp_path: Path, line: bytes) -> None:
    stored.store_results(tmp_path, "storm", judged(case(), ("bare",)))
    with stored.results_file(tmp_path).open("ab") as out:
        out.write(line + b"\n")
    with pytest.raises(BadInput, match=r"simulate\.jsonl: line 2: found"):
        stored.read_results(tmp_path)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(Lacking, match="results"):
        stored.store_results(tmp_path, "storm", [])
    with pytest.raises(Lacking, match="cannot be written"):
        stored.check_writable(tmp_path / "results")


def test_runs_without_a_request_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def idle(*args: Any, **kw: Any) -> Run:
        run = made_runs.simulate(*args, **kw)
        return replace(run, users=tuple(replace(user, completed=0) for user in run.users))

    monkeypatch.setattr("tidegate.judge.arms.mechanism", lambda: idle)
    monkeypatch.setattr("tidegate.judge.seeds.mechanism", lambda: idle)
    with pytest.raises(Unsupported, match="no block user had a request"):
        simulate_arm(case(), named_arm(case(), "mail"))
    assert simulate_arm(case(), named_arm(case(), "bare")).word is Word.STUCK


def test_bad_input_comes_back_from_a_worker_whole() -> None:
    error = BadInput("a.toml", "machine.pages", "-1", "1 or more")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.place) == (BadInput, str(error), "machine.pages")
