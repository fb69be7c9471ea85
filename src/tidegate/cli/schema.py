"""`tidegate schema`: the JSON Schema of an output."""

from __future__ import annotations

import argparse
import json

SUMMARY = "print the JSON schema of an output"
DESCRIPTION = """\
Prints the JSON Schema (draft 2020-12) of what a command writes with --json, made from the very types that the
command writes. Without a name it lists the names there are.

The field `schema` of every output names its schema and version, such as tidegate.check/1. Within a version
fields may be added, and none is removed or changes its meaning.
"""
EXAMPLES = (
    ("what there is", "tidegate schema"),
    ("of check --json", "tidegate schema check"),
)
EXIT_STATUS = {0: "the schema was printed"}

SCHEMA = "tidegate.schemas/1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("name", nargs="?", help="whose: check, checks (several hosts), changes, plan, ...")
    parser.add_argument("--json", action="store_true", help=f"list the names as JSON ({SCHEMA})")


def run(args: argparse.Namespace) -> int:
    """Prints a schema, or the names."""
    from tidegate.report.schema import TYPES, schema_text

    if args.name is not None:
        print(schema_text(args.name), end="")
    elif args.json:
        print(json.dumps({"schema": SCHEMA, "names": sorted(TYPES)}))
    else:
        print("\n".join(sorted(TYPES)))
    return 0
