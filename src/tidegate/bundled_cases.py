"""The cases that come with tidegate: `cases/` of the source tree, `tidegate/_cases` of a wheel."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from tidegate.errors import Usage


def cases_directory() -> Path:
    """Where the bundled cases are; the path need not exist in a package that was cut down."""
    package = Path(__file__).resolve().parent
    installed = package / "_cases"
    return installed if installed.is_dir() else package.parent.parent / "cases"


def case_names() -> list[str]:
    """Names of the bundled cases, sorted."""
    return sorted(path.stem for path in cases_directory().glob("*.toml"))


def case_path(typed: str) -> Path:
    """The path that a person typed, or the bundled case where it is a bare name of one and no file here.

    Usage, with near misses, for a bare name that is neither; a path is returned as it is, there or not.
    """
    path = Path(typed)
    if path.name != typed or path.suffix == ".toml" or path.exists():
        return path
    names = case_names()
    if typed in names:
        return cases_directory() / f"{typed}.toml"
    near = get_close_matches(typed, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "tidegate cases lists those that come with it"
    raise Usage(f"no case {typed!r}, and no file of that name; {hint}")
