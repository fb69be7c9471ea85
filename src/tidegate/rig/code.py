"""The hash of all that makes a verdict: results made by other code are marked as stale."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

# What decides a trial; what only prepares, draws or tells does not.
DECIDES = (
    "ablation.py", "agent", "blocked.py", "connecting.py", "counters.py", "far_side.py", "gdb_stub.py", "measures.py",
    "one_trial.py", "ram.py", "relay.py", "sampler.py", "storage_guest.py", "storm.py", "trial_guest.py", "verdict.py",
    "watching.py",
)  # fmt: skip


@cache
def code_hash() -> str:
    """Of the files that decide a verdict, as they are in this tree; short."""
    return source_hash(Path(__file__).resolve().parent)


def source_hash(rig: Path) -> str:
    """The same for the files below another place. Of Python what it does, not how it is laid out or explained."""
    digest = hashlib.sha256()
    for name in DECIDES:
        place = rig / name
        for path in sorted(place.glob("*.[ch]")) if place.is_dir() else [place]:
            data = path.read_bytes()
            meant = _told(_bare(ast.parse(data))).encode() if path.suffix == ".py" else data
            digest.update(path.name.encode() + meant)
    return digest.hexdigest()[:16]


def _bare(tree: ast.Module) -> ast.Module:
    """Without docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return tree


def _told(node: object) -> str:
    """A syntax tree as text, without what is empty: ast.dump() writes that differently from one Python to the next."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
        return f"{type(node).__name__}({','.join(f'{name}={_told(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_told, node))}]"
    return repr(node)
