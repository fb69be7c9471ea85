"""A bundle read again: its numbers, its tasks, and any line of it as proof (`wire.json:11: "waiting": 512`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tidegate.errors import BadInput
from tidegate.rig.blocked import Blocked, in_reclaim, parse
from tidegate.watermarks import ZONE_ORDER

_LONGEST = 200  # of a line as it is quoted
_SERVES = ZONE_ORDER[: ZONE_ORDER.index("Normal") + 1]


@dataclass(slots=True)
class Bundle:
    """One folder. A file that is not there is empty: a guest that panicked has no blocked tasks."""

    folder: Path
    proof: list[str] = field(default_factory=list)  # the lines that were used, in order, each once
    texts: dict[str, list[str]] = field(default_factory=dict)

    def lines(self, name: str) -> list[str]:
        """A file's lines; none where there is no such file."""
        if name not in self.texts:
            path = self.folder / name
            text = path.read_text(errors="replace") if path.is_file() else ""
            self.texts[name] = text.splitlines()
        return self.texts[name]

    def facts(self, name: str) -> Any:
        """A JSON file's content; {} where it is not there. BadInput where it is no JSON."""
        text = "\n".join(self.lines(name))
        try:
            return msgspec.json.decode(text) if text else {}
        except msgspec.DecodeError as trouble:
            raise BadInput(str(self.folder / name), "content", str(trouble), "the JSON of a bundle") from None

    def prove(self, name: str, pattern: str, after: str = "") -> str:
        """Notes the first line that has the pattern (below the first one that has `after`), and returns it bare.

        Empty, and nothing is noted, where there is none.
        """
        seen = not after
        for number, line in enumerate(self.lines(name), 1):
            if not seen:
                seen = re.search(after, line) is not None
            elif re.search(pattern, line):
                self.note(name, number)
                return line.strip()
        return ""

    def note(self, name: str, number: int) -> None:
        """One line, by its number from 1, becomes proof."""
        text = f"{name}:{number}: {self.lines(name)[number - 1].strip()[:_LONGEST]}"
        if text not in self.proof:
            self.proof.append(text)

    def blocked(self) -> tuple[str, tuple[Blocked, ...]]:
        """The blocked tasks of the last look that has some, and its file."""
        for name in ("blocked-2.txt", "blocked-1.txt"):
            if found := parse("\n".join(self.lines(name))):
                return name, found
        return "blocked-1.txt", ()


def read_bundle(folder: Path) -> Bundle:
    """BadInput where the folder is no bundle."""
    if not (folder / "trial.json").is_file():
        raise BadInput(str(folder), "trial.json", "no such file", "the folder of a trial that failed")
    return Bundle(folder)


@dataclass(frozen=True, slots=True)
class Known:
    """A bundle's facts as the rules look at them."""

    bundle: Bundle
    trial: dict[str, Any]
    zones: list[dict[str, Any]]
    wire: dict[str, Any]
    readings: dict[str, Any]
    status: str  # of the emulator: running, paused, ...
    file: str  # where the blocked tasks are
    tasks: tuple[Blocked, ...]

    @property
    def free(self) -> int:
        """Of the zones that serve the kernel."""
        return sum(zone["free"] for zone in self.zones)

    @property
    def slack(self) -> int | None:
        """The largest of (free - floor): at 0 the next atomic allocation fails; None where no zone is known."""
        return max((zone["free"] - zone["floor"] for zone in self.zones), default=None)

    @property
    def tcp_mem(self) -> tuple[int, int]:
        """Pages of all TCP sockets and their hard limit; 0 where it is not known."""
        used = int(self.readings.get("from_memory", {}).get("tcp_mem", 0))
        limit = str(self.readings.get("limits", {}).get("tcp_mem", "")).split()
        return used, int(limit[2]) if len(limit) == 3 else 0

    @property
    def reclaims(self) -> bool:
        """Does some task wait in reclaim?"""
        return any(in_reclaim(task) for task in self.tasks)


def known_of(bundle: Bundle) -> Known:
    """The facts of a bundle."""
    file, tasks = bundle.blocked()
    zones = [zone for zone in bundle.facts("zones.json") or [] if zone["name"] in _SERVES]
    status = bundle.facts("emulator.json").get("status", {}).get("status", "")
    return Known(
        bundle=bundle,
        trial=bundle.facts("trial.json"),
        zones=zones,
        wire=bundle.facts("wire.json"),
        readings=bundle.facts("readings.json"),
        status=status,
        file=file,
        tasks=tasks,
    )
