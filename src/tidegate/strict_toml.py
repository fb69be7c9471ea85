"""Reading TOML strictly: bounded files, tables that refuse unknown keys, one line that says what is wrong and where."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from tidegate.errors import BadInput, Lacking

SIZE_MAX_BYTES = 256 * 1024  # what people write by hand is a page or some; anything larger is another file
MOST = 1 << 32  # no number in a file of ours is larger
SHOWN_LENGTH = 60  # of a value that is wrong

Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
Ppm = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]

T = TypeVar("T")


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Part of a file; an unknown key is refused."""


def read_toml(path: Path, meant: str) -> dict[str, Any]:
    """The table in a file; `meant` says what the file should be, such as "a case in TOML".

    Raises BadInput: no such file, too large, no UTF-8, no TOML. Lacking: it may not be read.
    """
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(SIZE_MAX_BYTES + 1)
    except PermissionError as error:
        raise Lacking(f"{file}: may not be read ({error.strerror})") from error
    except OSError as error:
        raise BadInput(file, "", error.strerror or type(error).__name__, meant) from error
    if len(data) > SIZE_MAX_BYTES:
        raise BadInput(file, "", f"more than {SIZE_MAX_BYTES} bytes", meant)
    return parse_toml(data, file, meant)


def parse_toml(data: bytes, file: str, meant: str) -> dict[str, Any]:
    """The table in the bytes of a file; `file` is its name in messages. Raises BadInput."""
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadInput(file, f"byte {error.start}", "no UTF-8", "a TOML file in UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(file, "", f"no TOML: {error}", meant) from error


def convert(table: dict[str, Any], kind: type[T], file: str, meant: str, inside: str = "") -> T:
    """The table as frozen data; BadInput names the file and the first key that is wrong, below `inside`."""
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        wrong = wrong_place(table, msgspec.inspect.type_info(kind), "") or _as_msgspec_says(error, meant)
        raise BadInput(file, inside + wrong[0], wrong[1], wrong[2]) from error


def _as_msgspec_says(error: msgspec.ValidationError, meant: str) -> tuple[str, str, str]:
    said, _, place = str(error).partition(" - at `$.")
    return place.rstrip("`"), said, meant


def wrong_place(value: Any, kind: Any, place: str) -> tuple[str, str, str] | None:
    """The first place whose value is not of its kind: place, what was found, what was expected.

    msgspec's own message has the place, but not the value, nor in a reader's words what belongs there.
    """
    parts: Iterable[tuple[Any, Any, str]]
    if isinstance(kind, msgspec.inspect.StructType):
        return _wrong_table(value, kind, place)
    if isinstance(kind, msgspec.inspect.UnionType):
        return _wrong_union(value, kind, place)
    if isinstance(kind, msgspec.inspect.VarTupleType):
        if not isinstance(value, (list, tuple)):
            tables = isinstance(kind.item_type, msgspec.inspect.StructType)
            return place, _shown(value), f"a list of tables: [[{place}]]" if tables else "a list of texts"
        parts = ((one, kind.item_type, f"{place}[{at}]") for at, one in enumerate(value))
    elif isinstance(kind, msgspec.inspect.DictType):
        if not isinstance(value, dict):
            return place, _shown(value), "a table"
        parts = ((one, kind.value_type, f"{place}.{_key(key)}") for key, one in value.items())
    else:
        return None if _is(value, kind) else (place, _shown(value), _meant(value, kind))
    return next((wrong for part in parts if (wrong := wrong_place(*part)) is not None), None)


def _wrong_table(value: Any, kind: msgspec.inspect.StructType, place: str) -> tuple[str, str, str] | None:
    if not isinstance(value, dict):
        return place, _shown(value), f"a table: [{place}]"
    fields = {field.name: field for field in kind.fields}
    inside = f"{place}." if place else ""
    for key, one in value.items():
        if key not in fields:
            near = get_close_matches(key, fields, n=1)
            known = ", ".join(name for name in fields if inside or name != "name")
            return f"{inside}{_key(key)}", "a key that nothing reads", near[0] if near else f"one of {known}"
        wrong = wrong_place(one, fields[key].type, f"{inside}{key}")
        if wrong is not None:
            return wrong
    missing = next((field for field in kind.fields if field.required and field.name not in value), None)
    return None if missing is None else (f"{inside}{missing.name}", "nothing", _meant(None, missing.type))


def _wrong_union(value: Any, kind: msgspec.inspect.UnionType, place: str) -> tuple[str, str, str] | None:
    """Of several kinds one must fit. TOML knows no null: beside None it is as if the other kind stood alone."""
    kinds = [one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType)]
    if value is None and len(kinds) < len(kind.types):
        return None
    found = [wrong_place(value, one, place) for one in kinds]
    if None in found:
        return None
    return (
        found[0]
        if len(kinds) == 1
        else (place, _shown(value), " or ".join(_meant(value, one) for one in kinds))
    )


def _key(key: str) -> str:
    """A key as TOML writes it: with quotes where it is no bare one, such as the name of a sysctl."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else msgspec.json.encode(key).decode()


def _is(value: Any, kind: Any) -> bool:
    if isinstance(kind, (msgspec.inspect.IntType, msgspec.inspect.FloatType)):
        numbers = (int,) if isinstance(kind, msgspec.inspect.IntType) else (int, float)
        least, most = kind.ge, kind.le
        return (
            type(value) in numbers and (least is None or value >= least) and (most is None or value <= most)
        )
    if isinstance(kind, msgspec.inspect.EnumType):
        return value in list(kind.cls)
    if isinstance(kind, msgspec.inspect.BoolType):
        return isinstance(value, bool)
    if isinstance(kind, msgspec.inspect.DateType):
        return _is_date(value)
    return isinstance(value, str) or not isinstance(kind, msgspec.inspect.StrType)


def _is_date(value: Any) -> bool:
    if not isinstance(value, str):
        return type(value) is dt.date
    try:
        dt.date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _meant(value: Any, kind: Any) -> str:
    if isinstance(kind, (msgspec.inspect.IntType, msgspec.inspect.FloatType)):
        least, most = kind.ge, kind.le
        bounded = most is not None and (most < MOST or (type(value) is int and value > most))
        words = "a whole number" if isinstance(kind, msgspec.inspect.IntType) else "a number"
        words += "" if least is None else f" from {least}"
        return words + (f" to {most}" if bounded else "")
    if isinstance(kind, msgspec.inspect.EnumType):
        return f"one of {', '.join(one.value for one in kind.cls)}"
    if isinstance(kind, msgspec.inspect.DateType):
        return "a date, such as 2027-03-31"
    if isinstance(kind, (msgspec.inspect.StructType, msgspec.inspect.DictType)):
        return "a table"
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return "a list"
    return "true or false" if isinstance(kind, msgspec.inspect.BoolType) else "a text"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value) if isinstance(value, (str, int, float)) else str(value)
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."
