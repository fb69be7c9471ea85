from __future__ import annotations

import pytest

from tidegate import setting_ids
from tidegate.findings import RULES
from tidegate.report.terms import KINDS, find, nearest, terms
from tidegate.result import Basis, Law, Severity, State, Verdict
from tidegate.simulation import Word

IDS = {term.id for term in terms()}


def test_every_word_of_the_judgement_is_explained() -> None:
    words = [*Verdict, *Word, *State, *Severity, *Law, *Basis, *setting_ids.SYSCTLS, *setting_ids.FAMILIES]
    missing = [word for word in words if str(word) not in IDS]
    assert not missing
    assert {rule.id for rule in RULES} <= IDS


def test_no_two_terms_share_a_name_and_each_kind_is_listed() -> None:
    names = [name.casefold() for term in terms() for name in (term.id, *term.aliases)]
    assert len(names) == len(set(names))
    assert {term.kind for term in terms()} == set(KINDS)


@pytest.mark.parametrize("term", terms(), ids=lambda term: term.id)
def test_a_term_leads_only_to_terms_that_are_there(term: object) -> None:
    assert hasattr(term, "related")
    for related in term.related:
        assert find(related), related


@pytest.mark.parametrize(
    ("word", "ids"),
    [
        ("d1", ["D1"]),
        ("D9", ["D9-reconnect", "D9-serving"]),
        ("at_risk", ["AT_RISK"]),
        ("cannot tell", ["CANNOT_TELL"]),
        ("cap:swap /dev/nbd0", ["cap"]),
        ("TcpExtPFMemallocDrop", ["PFMemallocDrop"]),
        ("min_free_kbytes", ["vm.min_free_kbytes"]),
        ("queue.nr_requests:nbd0", ["queue.nr_requests"]),
        ("D99", []),
        ("", []),
        ("nothing:of the kind", []),
    ],
)
def test_find(word: str, ids: list[str]) -> None:
    assert [term.id for term in find(word)] == ids


def test_the_nearest_words_are_named() -> None:
    assert "kubelet-eviction" in nearest("kubelet")
    assert "PFMemallocDrop" in nearest("PFMemalocDrop")
    assert nearest("zzzzzzzz") == ()
