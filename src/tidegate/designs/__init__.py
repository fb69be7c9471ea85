"""The mail's patch and its rivals, one file each.

Adding a design is adding one file here: a module `NAME.py` that holds `DESIGN = Design(name="NAME", ...)`.
Importing this package reads them all; they are data only.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from pkgutil import iter_modules

from tidegate.design import Design
from tidegate.errors import Usage

BASELINE = "bare"  # what everything else is compared with: it stands first, the others follow by name
NO_DESIGNS = frozenset({"hunks"})  # modules of this package that are about designs and hold none


def _read() -> dict[str, Design]:
    found = {}
    for module in iter_modules(__path__):
        if module.name in NO_DESIGNS:
            continue
        one: Design = import_module(f"{__name__}.{module.name}").DESIGN
        assert one.name == module.name, f"designs/{module.name}.py holds a design called {one.name}"
        found[one.name] = one
    return {name: found[name] for name in sorted(found, key=lambda name: (name != BASELINE, name))}


DESIGNS: dict[str, Design] = _read()


def design(name: str) -> Design:
    """The design of that name. Usage names the nearest one, or all there are."""
    if name in DESIGNS:
        return DESIGNS[name]
    near = difflib.get_close_matches(name, DESIGNS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(DESIGNS)}"
    raise Usage(f"no design {name!r}; {hint}")
