"""Results as JSON: indented, keys sorted, every field present, so that a diff of two outputs can be read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tidegate.report.words import worst_first
from tidegate.result import CheckResult

CHECKS_SCHEMA = "tidegate.checks/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResults:
    """All that `tidegate check` says of several hosts, worst first."""

    results: tuple[CheckResult, ...]
    schema: str = CHECKS_SCHEMA


def to_json(result: object) -> str:
    """One result, or several `CheckResult`s as `CheckResults`, as JSON text that ends with a newline."""
    if isinstance(result, Sequence) and not isinstance(result, str):
        assert all(isinstance(one, CheckResult) for one in result), "only check results are printed in rows"
        result = CheckResults(results=worst_first(result))
    return msgspec.json.format(_encode(result), indent=2).decode() + "\n"


def _encode(result: object) -> bytes:
    try:
        return msgspec.json.encode(result, order="sorted")
    except UnicodeEncodeError:
        # A file name given on the command line may hold bytes that are no UTF-8; Python keeps them as
        # surrogates, which JSON cannot carry.
        return msgspec.json.encode(_without_surrogates(msgspec.to_builtins(result)), order="sorted")


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {key: _without_surrogates(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(one) for one in value]
    return value
