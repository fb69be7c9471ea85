from __future__ import annotations

import json

import pytest

from tidegate.cli import main
from tidegate.report.terms import terms


def test_a_finding_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "D1"]) == 0
    text = capsys.readouterr().out
    for part in ("refill_work", "how to reproduce", "cure:", "sources:", "severity: deadlock", "shown: seen"):
        assert part in text


def test_several_words_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "PFMemallocDrop", "discard", "DISCARD", "pfmemallocdrop"]) == 0
    text = capsys.readouterr().out
    assert text.count("PFMemallocDrop  packets of ordinary") == 1
    assert text.count("discard  nothing else holds") == 1


def test_the_list_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    text = capsys.readouterr().out
    assert not [term.id for term in terms() if f"  {term.id} " not in text]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--json", "D15"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "tidegate.explain/1"
    assert [term["id"] for term in told["terms"]] == ["D15"]
    assert main(["explain", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["terms"]) == len(terms())


@pytest.mark.parametrize(
    (("word"), ("near")),
    [(("D155"), ("D15")), (("minfree"), ("vm.min_free_kbytes")), (("qqqqqq"), ("lists all"))],
)
def test_an_unknown_word_is_usage_and_names_the_nearest(
    word: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", word]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert near in said.err
    assert len(said.err.splitlines()) == 1
