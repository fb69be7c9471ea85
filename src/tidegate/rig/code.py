"""The hash of all that makes a verdict: results made by other code are marked as stale."""

from __future__ import annotations

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
    here = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for name in DECIDES:
        place = here / name
        for path in sorted(place.glob("*.[ch]")) if place.is_dir() else [place]:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
