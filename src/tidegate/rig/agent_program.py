"""The static agent (`agent/*.c`), built by the machine's compiler and kept by what it was made of."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tidegate.rig.tools import cache_directory, call, locked

SOURCES = Path(__file__).resolve().parent / "agent"
# No build id, no symbols, no path of this machine: the same compiler makes the same bytes.
FLAGS = (
    "-static",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Wl,--build-id=none",
    "-s",
    f"-ffile-prefix-map={SOURCES}=agent",
)


def agent_program() -> Path:
    """The agent's path. Lacking where there is no compiler or no static C library."""
    compiler = call(["gcc", "--version"], timeout_s=30).splitlines()[0]
    digest = hashlib.sha256(compiler.encode())
    sources = sorted(SOURCES.glob("*.[ch]"))
    for path in sources:
        digest.update(path.name.encode() + path.read_bytes())
    with locked(cache_directory() / "agents") as folder:
        built = folder / f"agent-{digest.hexdigest()[:16]}"
        if not built.exists():
            part = built.with_suffix(".part")
            files = [path.name for path in sources if path.suffix == ".c"]
            call(["gcc", *FLAGS, "-o", part, *files], timeout_s=300, cwd=SOURCES)
            part.rename(built)
        return built
