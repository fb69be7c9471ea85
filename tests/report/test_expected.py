"""Every text of a report, compared as a whole: a change of wording is a diff that a person reads."""

from __future__ import annotations

import pytest
from tests.report.write_expected import EXPECTED, texts

TEXTS = texts()


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_text_is_as_expected(name: str) -> None:
    expected = (EXPECTED / name).read_text(encoding="utf-8")
    assert TEXTS[name] == expected, "if it is meant: python -m tests.report.write_expected, and read the diff"


def test_nothing_expected_is_left_over() -> None:
    assert sorted(TEXTS) == sorted(path.name for path in EXPECTED.iterdir())
