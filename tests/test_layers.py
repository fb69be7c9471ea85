"""The house rules that a reader of the source may rely on, held by reading the source.

Every rule is a function from the sources to a list of complaints, so that each can be shown to complain.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"

Sources = Mapping[str, str]  # module name -> text, such as "tidegate.host.live"

# Lowest first. A room imports from its own layer and from lower ones; rooms of one layer that stand in
# different groups do not import each other.
LAYERS: tuple[tuple[tuple[str, ...], ...], ...] = (
    ((
        "__init__", "units", "errors", "strict_toml", "trace", "design", "case", "case_trial", "bundled_cases",
        "result", "simulation", "trial", "intervals", "setting_ids",
    ),),
    (("reserve", "drivers", "frames", "need", "watermarks", "rules_of_thumb"),),
    (("model",), ("sim",)),
    (("designs",),),
    (("refine",),),
    (("prove",), ("host",)),
    (("findings", "plan", "instance", "check"),),
    (("report",),),
    (("apply",),),
    (("guard",), ("rig",)),
    (("judge",),),
    (("cli", "__main__"),),
)  # fmt: skip
PLACE = {
    room: (height, group)
    for height, layer in enumerate(LAYERS)
    for group, rooms in enumerate(layer)
    for room in rooms
}

CORE_PACKAGES = {"msgspec", "pyroute2", "shtab"}
EXTRA_PACKAGES = {
    "prove": {"numpy", "numba", "z3", "ortools"},
    "rig": {"qemu", "scapy", "capstone", "distributed"},
}
# Imported only inside the function that needs them: they cost more than a whole `tidegate --help`.
LATE_PACKAGES = {
    "asyncio", "concurrent", "email", "http", "multiprocessing", "pyroute2", "rich", "shtab", "sqlite3",
    "ssl", "unittest", "urllib", "xml",
}  # fmt: skip
BANNED_NAMES = {"base", "common", "core", "helper", "helpers", "manager", "misc", "util", "utils"}
MOST_LINES = 500
PRIVATE_PLACES = re.compile(r"/wor[k]/|/home/[a-z]|/Users/[A-Za-z]")


def read_sources() -> dict[str, str]:
    found = {}
    for path in sorted((SRC / "tidegate").rglob("*.py")):
        found[".".join(path.relative_to(SRC).with_suffix("").parts)] = path.read_text()
    return found


def room_of(module: str) -> str:
    """The part of the house: `host` for tidegate.host.live, `units` for tidegate.units."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(text: str, *, late: bool = True) -> Iterator[tuple[int, str]]:
    """Line and module of each import; without `late` only those that run when the module is imported."""

    def walk(nodes: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not late:
                continue
            typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            if typing_only and not late:
                continue
            yield node
            for field in ("body", "orelse", "finalbody"):
                yield from walk(getattr(node, field, []))
            for part in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
                yield from walk(part.body)

    for node in walk(ast.parse(text).body):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "tidegate":
            yield from ((node.lineno, f"tidegate.{name.name}") for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "."


def rule_rooms_are_named(sources: Sources) -> list[str]:
    unknown = {room_of(module) for module in sources} - PLACE.keys()
    return [f"{room} has no place in LAYERS" for room in sorted(unknown)]


def rule_imports_go_down(sources: Sources) -> list[str]:
    complaints = []
    for module, text in sources.items():
        height, group = PLACE.get(room_of(module), (0, 0))
        for line, target in imports(text):
            if not target.startswith("tidegate."):
                continue
            their_height, their_group = PLACE.get(room_of(target), (0, 0))
            if their_height > height or (their_height == height and their_group != group):
                complaints.append(f"{module}:{line} imports {target}, which is not below it")
    return complaints


def rule_no_circles(sources: Sources) -> list[str]:
    """No circle among modules by what they import when they are imported."""
    edges: dict[str, set[str]] = {}
    for module, text in sources.items():
        name = module.removesuffix(".__init__")
        edges[name] = {target for _, target in imports(text, late=False)} - {name}
    names = set(edges)
    while leaves := {name for name in names if not edges[name] & names}:
        names -= leaves
    return [f"{', '.join(sorted(names))} import each other"] if names else []


def rule_known_packages(sources: Sources) -> list[str]:
    complaints = []
    for module, text in sources.items():
        allowed = CORE_PACKAGES | EXTRA_PACKAGES.get(room_of(module), set()) | {"tidegate", "__future__"}
        for line, target in imports(text):
            package = target.split(".")[0]
            if package not in allowed and package not in sys.stdlib_module_names:
                complaints.append(f"{module}:{line} imports {package}, no dependency of {room_of(module)}")
    return complaints


def rule_heavy_imports_are_late(sources: Sources) -> list[str]:
    return [
        f"{module}:{line} imports {target} outside a function"
        for module, text in sources.items()
        for line, target in imports(text, late=False)
        if target.split(".")[0] in LATE_PACKAGES
    ]


def rule_reading_runs_no_programs(sources: Sources) -> list[str]:
    return [
        f"{module}:{line} imports {target}: a host is read, not asked through programs"
        for module, text in sources.items()
        for line, target in imports(text)
        if room_of(module) in {"host", "findings", "plan", "check", "report"} and target == "subprocess"
    ]


def rule_modules_are_short(sources: Sources) -> list[str]:
    lengths = {module: len(text.splitlines()) for module, text in sources.items()}
    return [f"{module} has {lines} lines" for module, lines in lengths.items() if lines > MOST_LINES]


def rule_names_say_something(sources: Sources) -> list[str]:
    return [module for module in sources if BANNED_NAMES & set(re.split(r"[._]", module))]


def rule_no_private_places(sources: Sources) -> list[str]:
    return [
        f"{module}:{number} names a place of one machine"
        for module, text in sources.items()
        for number, line in enumerate(text.splitlines(), 1)
        if PRIVATE_PLACES.search(line)
    ]


Rule = Callable[[Sources], list[str]]
RULES: list[Rule] = [
    rule_rooms_are_named,
    rule_imports_go_down,
    rule_no_circles,
    rule_known_packages,
    rule_heavy_imports_are_late,
    rule_reading_runs_no_programs,
    rule_modules_are_short,
    rule_names_say_something,
    rule_no_private_places,
]

WRONG: list[tuple[Rule, dict[str, str]]] = [
    (rule_rooms_are_named, {"tidegate.cellar": ""}),
    (rule_imports_go_down, {"tidegate.host.live": "from tidegate.findings import ring"}),
    (rule_imports_go_down, {"tidegate.host.live": "import tidegate.plan"}),
    (rule_imports_go_down, {"tidegate.host.live": "def f():\n    from tidegate import report"}),
    (rule_imports_go_down, {"tidegate.units": "from tidegate.reserve import Host"}),
    (rule_imports_go_down, {"tidegate.report.text": "from tidegate.rig import net"}),
    (rule_imports_go_down, {"tidegate.rig.trial": "from tidegate.guard import loader"}),
    (rule_imports_go_down, {"tidegate.sim.tcp": "try:\n    pass\nexcept E:\n    import tidegate.model"}),
    (rule_imports_go_down, {"tidegate.sim.tcp": "match x:\n    case 1:\n        import tidegate.designs"}),
    (
        rule_no_circles,
        {"tidegate.units": "import tidegate.errors", "tidegate.errors": "import tidegate.units"},
    ),
    (rule_known_packages, {"tidegate.host.live": "import numpy"}),
    (rule_known_packages, {"tidegate.units": "def f():\n    import requests"}),
    (rule_heavy_imports_are_late, {"tidegate.host.live": "import pyroute2.netlink"}),
    (rule_heavy_imports_are_late, {"tidegate.report.text": "class A:\n    from shtab import complete"}),
    (rule_reading_runs_no_programs, {"tidegate.host.live": "def f():\n    import subprocess"}),
    (rule_modules_are_short, {"tidegate.units": "pass\n" * (MOST_LINES + 1)}),
    (rule_names_say_something, {"tidegate.host.utils": ""}),
    (rule_names_say_something, {"tidegate.host.socket_helpers": ""}),
    (rule_no_private_places, {"tidegate.units": "PATH = '/home/" + "someone/x'"}),
]

RIGHT: dict[str, str] = {
    "tidegate.__init__": "",
    "tidegate.units": "import re",
    "tidegate.host.live": "from tidegate import units\ndef f():\n    import pyroute2\nimport msgspec",
    "tidegate.report.text": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import shtab",
    "tidegate.prove.engine": "import numpy",
    "tidegate.rig.guest": "import subprocess",
    "tidegate.cli.__init__": "def main():\n    import tidegate.cli.check",
    "tidegate.cli.check": "from tidegate.cli import main",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule: Rule) -> None:
    assert rule(read_sources()) == []


@pytest.mark.parametrize(("rule", "sources"), WRONG)
def test_the_rule_complains_of_what_is_wrong(rule: Rule, sources: dict[str, str]) -> None:
    assert len(rule(sources)) == 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_lets_pass_what_is_right(rule: Rule) -> None:
    assert rule(RIGHT) == []


def test_every_rule_is_shown_to_complain() -> None:
    assert {rule for rule, _ in WRONG} == set(RULES)


def test_the_sources_are_found() -> None:
    assert {"tidegate.__init__", "tidegate.cli.__init__", "tidegate.units"} <= read_sources().keys()
