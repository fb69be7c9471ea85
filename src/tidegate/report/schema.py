"""JSON Schemas of what tidegate prints, made from the types that it prints."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from tidegate.errors import Usage

DRAFT = "https://json-schema.org/draft/2020-12/schema"

# Where each type is. Named, not imported, so that asking for one schema loads one module.
TYPES = {
    "check": "tidegate.result:CheckResult",
    "checks": "tidegate.report.json:CheckResults",
    "changes": "tidegate.report.changes:Changes",
    "plan": "tidegate.result:Plan",
    "simulate": "tidegate.simulation:Simulated",
    "simulations": "tidegate.simulation:Simulations",
    "compare": "tidegate.simulation:Compared",
    "cases": "tidegate.simulation:Cases",
    "swarm": "tidegate.simulation:Swarm",
    "against": "tidegate.simulation:Against",
    "trace": "tidegate.trace:Event",
    "trial": "tidegate.trial:TrialResult",
    "trials": "tidegate.trial:Trials",
    "bisect": "tidegate.trial:Bisected",
    "kernels": "tidegate.rig.kernel_list:Kernels",
    "rig-doctor": "tidegate.rig.doctor:Doctor",
    "explain": "tidegate.report.explain:Explained",
    "record-manifest": "tidegate.host.archive:Manifest",
}


def json_schema(name: str) -> dict[str, Any]:
    """The schema of one output, after JSON Schema draft 2020-12.

    What a command prints holds every field, so every property is required; further ones may come within a
    version, so they are allowed. Of a manifest the archive leaves out what is empty, and its schema says so.
    `Usage` for a name that is not in TYPES.
    """
    import msgspec

    try:
        module, attribute = TYPES[name].split(":")
    except KeyError:
        raise Usage(f"no schema {name!r}; there are {', '.join(sorted(TYPES))}") from None
    kind = getattr(importlib.import_module(module), attribute)
    schema = msgspec.json.schema(kind)
    if is_dataclass(kind):
        for definition in _objects(schema):
            definition["required"] = sorted(definition["properties"])
    _pin_names(schema)
    return {"$schema": DRAFT, "title": _name_of(kind, name), **schema}


def schema_text(name: str) -> str:
    """The schema as JSON that ends with a newline."""
    return json.dumps(json_schema(name), indent=2, sort_keys=True) + "\n"


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every definition that has properties."""
    if isinstance(value, dict):
        if isinstance(value.get("properties"), dict):
            yield value
        for one in value.values():
            yield from _objects(one)
    elif isinstance(value, list):
        for one in value:
            yield from _objects(one)


def _pin_names(schema: dict[str, Any]) -> None:
    """The field `schema` holds one name and no other."""
    for definition in _objects(schema):
        field = definition["properties"].get("schema")
        if field is not None and "default" in field:
            definition["properties"]["schema"] = {"const": field["default"]}


def _name_of(kind: Any, name: str) -> str:
    """What the field `schema` of that output holds."""
    if not is_dataclass(kind):
        return f"tidegate.{name}"
    # A line of a trace has no field for it: the first line of the file does.
    return str(next((one.default for one in fields(kind) if one.name == "schema"), f"tidegate.{name}"))
