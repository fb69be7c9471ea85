"""A page read strictly, and its numbers compared with the JSON of the same result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pytest
from tests.report import samples

from tidegate.report.html import check_html
from tidegate.report.json import to_json
from tidegate.result import CheckResult

VOID = {"meta", "br"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    parts: list[Element | str] = field(default_factory=list)

    @property
    def children(self) -> list[Element]:
        return [part for part in self.parts if isinstance(part, Element)]

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    def walk(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            yield from child.walk()

    def whole(self) -> str:
        return "".join(part if isinstance(part, str) else part.whole() for part in self.parts)


class Tree(HTMLParser):
    """A page as elements; anything not closed in order is an error, which browsers would only guess at."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.stack = [self.root]
        self.feed(text)
        self.close()
        assert self.stack == [self.root], [one.name for one in self.stack]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), attrs
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.stack[-1].parts.append(element)
        if tag not in VOID:
            self.stack.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop().name == tag, tag

    def handle_data(self, data: str) -> None:
        self.stack[-1].parts.append(data)

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data}")


def elements(text: str) -> list[Element]:
    return list(Tree(text).root.walk())


def at(value: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def shows(one: Element, expected: object) -> bool:
    if isinstance(expected, int):
        exact = one.name != "data" or int(one.attributes["value"]) == expected
        return exact and f"{expected:,}" in one.whole().split(" ")
    if expected is None:
        return one.name != "data" and bool(re.search("no bound|not known", one.whole()))
    return expected == samples.HOSTILE or str(expected) in one.whole()


def assert_same_numbers(result: CheckResult) -> None:
    """Every number on the page that says where it stands in the JSON stands there; none that matters is missing."""
    value = json.loads(to_json(result))
    shown: dict[str, list[Element]] = {}
    for one in elements(check_html(result)):
        if "data-at" in one.attributes:
            shown.setdefault(one.attributes["data-at"], []).append(one)
    for pointer, found in shown.items():
        for one in found:
            assert shows(one, at(value, pointer)), pointer
    for zone in range(len(value["reserve"]["zones"])):
        for level in ("managed", "free", "high", "low", "min", "floor", "lowmem_reserve", "exclusive"):
            assert f"/reserve/zones/{zone}/{level}" in shown
    for row in range(len(value["reserve"]["rows"])):
        assert f"/reserve/rows/{row}/pages" in shown
    for user, one in enumerate(value["users"]):
        for socket in range(len(one["sockets"])):
            assert f"/users/{user}/sockets/{socket}/sndbuf_bytes" in shown
    assert {"/verdict", "/reason", "/reserve/need_pages", "/reserve/exclusive_pages"} <= shown.keys()
