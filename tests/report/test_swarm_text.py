"""The swarm on the screen."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tidegate.report.json import to_json
from tidegate.report.schema import json_schema
from tidegate.report.swarm_text import swarm_text
from tidegate.simulation import Surprise, Swarm, SwarmRow

ROWS = (
    SwarmRow(design="bare", lawful={}, unlawful={"STUCK": 30, "SEEN": 12}, stuck_by_law={"reserve": 30}),
    SwarmRow(
        design="mail", lawful={"SEEN": 40, "LUCKY": 2, "REFUSED": 1}, unlawful={"SEEN": 5}, stuck_by_law={}
    ),
)
QUIET = Swarm(first_seed=1000, n=90, rows=ROWS, surprises=(), events=1_234_567)
FOUND = Swarm(
    first_seed=0,
    n=90,
    rows=ROWS,
    events=5,
    surprises=(
        Surprise(
            seed=17,
            design="mail",
            what="STUCK, and no law is broken: swap: 5 requests wait, and none has completed for 240 s",
            repeat="tidegate swarm --seed 17 --seeds 1 --save surprise.toml",
        ),
    ),
)


def test_one_row_a_design() -> None:
    lines = swarm_text(QUIET).splitlines()
    assert lines[0] == "0 surprises in 90 machines"
    assert lines[1] == "seeds 1000 to 1089, 1,234,567 events"
    cells = [line.split() for line in lines if line.strip().startswith(("bare ", "mail "))]
    assert cells == [["bare", "0", "0", "0", "0", "30", "42"], ["mail", "0", "2", "1", "40", "0", "5"]]
    heads = next(line for line in lines if "design" in line)
    order = ["lawful STUCK", "lawful LUCKY", "lawful REFUSED", "lawful SEEN", "STUCK unlawful"]
    assert [heads.index(head) for head in order] == sorted(heads.index(head) for head in order)


def test_a_surprise_comes_with_the_command_that_repeats_it() -> None:
    lines = swarm_text(FOUND, width=60).splitlines()
    assert lines[0] == "1 surprise in 90 machines"
    assert any(line.startswith("seed 17, mail: STUCK") for line in lines)
    assert lines[-1] == "  tidegate swarm --seed 17 --seeds 1 --save surprise.toml"  # never wrapped


def test_colour_says_good_or_bad() -> None:
    plain, good, bad = swarm_text(QUIET), swarm_text(QUIET, colour=True), swarm_text(FOUND, colour=True)
    assert "\x1b[" not in plain
    assert good.splitlines()[0].startswith("\x1b[")
    assert good.splitlines()[0].split("m")[0] != bad.splitlines()[0].split("m")[0]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_sentences_keep_to_the_width(width: int) -> None:
    table = [line for line in swarm_text(FOUND, width=width).splitlines() if "STUCK" not in line]
    prose = [line for line in table if not line.strip().startswith(("bare", "mail", "design", "tidegate"))]
    assert max(map(len, prose)) <= width


@pytest.mark.parametrize("result", [QUIET, FOUND])
def test_json_is_what_the_schema_says(result: Swarm) -> None:
    jsonschema.Draft202012Validator(json_schema("swarm")).validate(json.loads(to_json(result)))
