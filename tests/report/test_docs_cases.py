"""The page of cases is made of the types, and a table of results stands where a page asks for one."""

from __future__ import annotations

import msgspec
import pytest

from tidegate.report.docs_cases import TABLES, cases_markdown, fields, with_results
from tidegate.simulation import CaseArm, CaseState


@pytest.mark.parametrize("name", TABLES)
def test_every_key_is_described(name: str) -> None:
    rows = fields(TABLES[name])
    known = {one.encode_name for one in msgspec.structs.fields(TABLES[name])}
    assert {key for key, _, _ in rows} == known - ({"name"} if name == "(top)" else set())
    assert [key for key, _, meaning in rows if not meaning] == []


def test_the_page_has_defaults_and_choices() -> None:
    page = cases_markdown()
    assert "| `pages` | `4096` |" in page
    assert "| `buffer_bytes` | `2048` |" in page  # a type that is annotated
    assert "- `recycle`: " in page
    assert "- `simulate`: STUCK, LUCKY, REFUSED, SEEN" in page


def state(word: str | None) -> dict[str, CaseState]:
    arm = CaseArm(
        name="an | arm",
        design="mail",
        expected={"simulate": "SEEN"},
        found={} if word is None else {"simulate": word},
        k=3,
        n=4,
        stale=False,
        agrees=None,
    )
    return {"x": CaseState(name="x", claim="A claim.", source="", finding="", arms=(arm,))}


@pytest.mark.parametrize(("word", "found"), [("STUCK", "STUCK 3 of 4"), (None, "not run")])
def test_results_stand_below_the_mark_and_are_replaced(word: str | None, found: str) -> None:
    whys = {("x", "an | arm"): "because"}
    once = with_results("before\n<!-- case: x -->\nafter\n", state(word), whys)
    assert f"| an \\| arm | SEEN | {found} | because |\n" in once
    assert once.startswith("before\n<!-- case: x -->\n")
    assert once.endswith("<!-- end of case -->\nafter\n")
    assert with_results(once, state(word), whys) == once


def test_a_case_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        with_results("<!-- case: gone -->\n", state(None), {})


def test_a_new_mark_before_a_filled_one_keeps_the_text_between_them() -> None:
    filled = with_results("<!-- case: x -->\n", state("SEEN"), {})
    both = with_results(f"<!-- case: x -->\nprose\n{filled}", state("SEEN"), {})
    assert both == f"{filled}prose\n{filled}"
