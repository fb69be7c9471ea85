"""HTML and SVG as text that cannot be broken out of: what is not markup is escaped, in one place."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from tidegate.report.words import printable

_VOID = {"br", "col", "hr", "meta"}


class Markup(str):
    """Text that is markup already; only this module makes it."""

    __slots__ = ()


Child = str | Markup | Iterable["Child"] | None


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """An element. `class_` is class and `aria_label` is aria-label; an attribute that is None is left out."""
    words = "".join(
        f' {key.strip("_").replace("_", "-")}="{escape(printable(_number(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        assert not children, name
        return Markup(f"<{name}{words}>")
    return Markup(f"<{name}{words}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Children one after the other; strings are escaped, and what no browser should obey is made visible."""
    return Markup("".join(map(_child, children)))


def trusted(text: str) -> Markup:
    """Our own constants (a style sheet); never anything from a host."""
    return Markup(text)


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str):
        return escape(printable(child), quote=False)
    return join(child)


def _number(value: str | float) -> str:
    """Coordinates with one digit after the point are as fine as any screen."""
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
