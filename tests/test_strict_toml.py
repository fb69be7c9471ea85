"""Strict TOML: what msgspec refuses is said with its place, in a reader's words."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import msgspec
import pytest

from tidegate.errors import BadInput
from tidegate.strict_toml import Positive, Table, convert, parse_toml


class Inner(Table, frozen=True):
    many: Positive = 1


class Sheet(Table, frozen=True):
    whole: int = 0
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    day: dt.date = dt.date(2027, 3, 31)
    inner: Inner | None = None
    either: int | str | None = None
    texts: dict[str, str] = msgspec.field(default_factory=dict)


def said(text: str) -> str:
    with pytest.raises(BadInput) as caught:
        convert(parse_toml(text.encode(), "a.toml", "a sheet"), Sheet, "a.toml", "a sheet")
    return str(caught.value)


@pytest.mark.parametrize(
    "text", ["share = 1", "day = '2027-01-01'", "inner.many = 3", "either = 'x'", "whole = -3"]
)
def test_what_fits_is_taken(text: str) -> None:
    convert(parse_toml(text.encode(), "a.toml", "a sheet"), Sheet, "a.toml", "a sheet")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("whole = 'x'", "whole: found 'x', expected a whole number"),
        ("share = 1.5", "share: found 1.5, expected a number from 0 to 1"),
        ("share = true", "share: found true, expected a number from 0 to 1"),
        ("day = 'soon'", "day: found 'soon', expected a date, such as 2027-03-31"),
        ("day = 2027-01-01T00:00:00", "day: found 2027-01-01 00:00:00, expected a date, such as 2027-03-31"),
        ("inner = 3", "inner: found 3, expected a table: [inner]"),
        ("inner.many = 0", "inner.many: found 0, expected a whole number from 1"),
        ("inner.mayn = 1", "inner.mayn: found a key that nothing reads, expected many"),
        ("either = []", "either: found a list, expected a whole number or a text"),
        ('texts."a.b" = 1', 'texts."a.b": found 1, expected a text'),
        ('texts."a\\nb" = 1', 'texts."a\\nb": found 1, expected a text'),
        ('"a b" = 1', '"a b": found a key that nothing reads, expected one of whole'),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(text: str, expected: str) -> None:
    assert said(text).startswith(f"a.toml: {expected}")
