"""The Prometheus text exposition format (version 0.0.4), written: gauges and counters, nothing else.

Why not prometheus_client: all that is needed of it is this page. It would bring a registry that lives as long
as the process, `_created` samples beside every counter, and an HTTP server with what that imports; a daemon
whose memory is locked pays for each of them. Names, help texts and labels are checked here as promtool does.

It imports nothing of tidegate, so whatever shows numbers can use it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

_NAME = re.compile(
    r"[a-z_][a-z0-9_]*\Z"
)  # narrower than the format: no colons, which are for recording rules
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*\Z")


class Kind(StrEnum):
    """What a metric may be."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One number with its labels."""

    value: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A family of samples. A unit is the last word of the name; a counter ends in `_total`."""

    name: str
    help: str
    kind: Kind
    samples: tuple[Sample, ...]


def gauge(name: str, help: str, *samples: Sample) -> Metric:
    """A number that goes up and down."""
    return _checked(Metric(name=name, help=help, kind=Kind.GAUGE, samples=samples))


def counter(name: str, help: str, *samples: Sample) -> Metric:
    """A number that only grows, until the host starts anew."""
    return _checked(Metric(name=name, help=help, kind=Kind.COUNTER, samples=samples))


def sample(value: float, /, **labels: str) -> Sample:
    """A number with its labels, in the order given."""
    return Sample(value=value, labels=labels)


def exposition(metrics: Iterable[Metric]) -> str:
    """The text; metrics without samples are left out, with their HELP and TYPE."""
    lines: list[str] = []
    names: set[str] = set()
    for metric in metrics:
        assert metric.name not in names, f"{metric.name} twice: the samples of a metric must stand together"
        names.add(metric.name)
        if metric.samples:
            lines.append(f"# HELP {metric.name} {_escape_help(metric.help)}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            lines += (f"{metric.name}{_labels(one.labels)} {_number(one.value)}" for one in metric.samples)
    return "".join(f"{line}\n" for line in lines)


def _checked(metric: Metric) -> Metric:
    """Asserts what a scraper or promtool would complain of."""
    assert _NAME.match(metric.name), metric.name
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER), (
        f"{metric.name}: _total is for counters"
    )
    assert metric.help, f"{metric.name} has no help"
    series = [tuple(sorted(one.labels.items())) for one in metric.samples]
    assert len(set(series)) == len(series), f"{metric.name}: two samples with the same labels"
    for one in metric.samples:
        assert all(_LABEL.match(label) for label in one.labels), f"{metric.name}: {list(one.labels)}"
    return metric


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape_label(value)}"' for name, value in labels.items()) + "}"


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape_label(text: str) -> str:
    return _escape_help(text).replace('"', r"\"")


def _number(value: float) -> str:
    """Whole numbers exactly, others as short as they read back the same."""
    if isinstance(value, int):  # bool too: True is 1
        return str(int(value))
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
