"""The page of counters: its layout is the agent's own, as the C compiler has it."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from tidegate.rig import counters
from tidegate.rig.agent_program import SOURCES
from tidegate.rig.tools import missing

ASKS = r"""
#include <stdio.h>
#include "agent.h"
#define AT(field) printf("%s %zu\n", #field, offsetof(struct counters, field))
int main(void)
{
	AT(magic); AT(ticks); AT(tick_ms); AT(reader_ms); AT(go_ms); AT(hogs); AT(reading); AT(hog); AT(second_reads);
	AT(hog[1]); AT(hog[1].written); AT(hog[1].read); AT(hog[1].wrong); AT(hog[1].stage);
	printf("size %zu\nREADINGS %d\nHOGS_MAX %d\n", sizeof(struct counters), READINGS, HOGS_MAX);
	printf("MAGIC %llu\n", COUNTERS_MAGIC);
	printf("stages %d %d %d %d %d\n", WAITING, WRITING, READING_BACK, DONE, BROKEN);
	return 0;
}
"""


def page(*, hogs: int = 2, magic: int = counters.MAGIC) -> bytes:
    """A page whose every number says where it stands."""
    words = list(range(1000, 1000 + counters.PAGE_BYTES // 8))
    words[0], words[5] = magic, hogs
    first = 6 + len(counters.READINGS)
    for number in range(counters.HOGS_MAX):
        words[first + 4 * number + 3] = number % 5
    return struct.pack(f"<{len(words)}Q", *words)


@pytest.mark.skipif(bool(missing(["gcc"])), reason="no gcc here")
def test_the_layout_is_that_of_agent_h(tmp_path: Path) -> None:
    (tmp_path / "asks.c").write_text(ASKS)
    built = tmp_path / "asks"
    subprocess.run(["gcc", "-I", SOURCES, "-o", built, tmp_path / "asks.c"], check=True)
    told = subprocess.run([built], check=True, capture_output=True, text=True).stdout
    at = dict(line.split(" ", 1) for line in told.splitlines())
    assert at.pop("stages") == " ".join(str(int(stage)) for stage in counters.Stage)
    numbers = {name: int(value) for name, value in at.items()}
    reading, hog = 6 * 8, 6 * 8 + 8 * len(counters.READINGS)
    assert numbers == {
        "magic": 0, "ticks": 8, "tick_ms": 16, "reader_ms": 24, "go_ms": 32, "hogs": 40, "reading": reading,
        "hog": hog, "second_reads": hog + 32 * counters.HOGS_MAX, "hog[1]": hog + 32, "hog[1].written": hog + 32,
        "hog[1].read": hog + 40, "hog[1].wrong": hog + 48, "hog[1].stage": hog + 56,
        "size": hog + 32 * counters.HOGS_MAX + 8, "READINGS": len(counters.READINGS),
        "HOGS_MAX": counters.HOGS_MAX, "MAGIC": counters.MAGIC,
    }  # fmt: skip
    assert numbers["size"] <= counters.PAGE_BYTES


def test_readings_and_stages_have_the_names_of_agent_h() -> None:
    text = (SOURCES / "agent.h").read_text()
    for name, ours in (("reading", counters.READINGS), ("stage", [one.name for one in counters.Stage])):
        found = re.search(rf"enum {name} {{([^}}]*)}}", text)
        assert found is not None
        theirs = [word.lower() for word in re.findall(r"\w+", found[1])]
        assert [word for word in theirs if word != "readings"] == [word.lower() for word in ours]


def test_each_number_is_read_from_its_place() -> None:
    found = counters.parse(page())
    assert found is not None
    assert (found.ticks, found.tick_ms, found.reader_ms, found.go_ms) == (1001, 1002, 1003, 1004)
    assert list(found.readings.values()) == list(range(1006, 1006 + len(counters.READINGS)))
    first = 1006 + len(counters.READINGS)
    assert found.hogs == (
        counters.Hog(first, first + 1, first + 2, counters.Stage.WAITING),
        counters.Hog(first + 4, first + 5, first + 6, counters.Stage.WRITING),
    )
    assert found.second_reads == first + 4 * counters.HOGS_MAX
    assert found.done_pages == 4 * first + 10


def test_a_page_that_is_not_the_agents_is_none() -> None:
    assert counters.parse(page(magic=counters.MAGIC + 1)) is None
    assert counters.parse(bytes(counters.PAGE_BYTES)) is None
    assert counters.parse(page(hogs=counters.HOGS_MAX + 1)) is None
    assert counters.parse(page(hogs=counters.HOGS_MAX)) is not None
