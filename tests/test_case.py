"""A case is read, or one line says what is wrong with it: file, key, what was found, what was expected."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.case import (
    MEANT,
    PARTS,
    Case,
    Driver,
    arm_case,
    parse_case,
    read_case,
)
from tidegate.cli import main
from tidegate.design import SWITCHES
from tidegate.errors import BadInput, Exit, Lacking
from tidegate.strict_toml import SIZE_MAX_BYTES, convert

HEAD = 'claim = "a claim"\nsource = "a source"\n'
ARM = HEAD + '[[arm]]\nname = "one"\ndesign = "mail"\n'


def wrong(text: str | bytes) -> str:
    """The line that is said of such a file."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(BadInput) as caught:
        parse_case(data, "dir/storm.toml")
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("dir/storm.toml: ")
    assert line.count(": found ") == line.count(", expected ") == 1
    return line.removeprefix("dir/storm.toml: ")


def test_what_is_not_written_has_its_default() -> None:
    case = parse_case((HEAD + "[machine]\npages = 512\nreserve_pages = 10\n").encode(), "dir/storm.toml")
    assert (case.name, case.claim, case.machine.pages, case.nic.driver) == (
        "storm",
        "a claim",
        512,
        Driver.EMPTY,
    )
    assert len(case.user) == 1
    assert (*case.traffic, *case.hook, *case.arm) == ()


def test_the_parts_are_those_of_a_case() -> None:
    fields = {field.name for field in msgspec.structs.fields(Case)}
    assert fields == {*PARTS, "claim", "source", "finding", "arm", "trial", "name"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # Not of its kind.
        (HEAD + "machine.pages = -1", "machine.pages: found -1, expected a whole number from 1"),
        (HEAD + "machine.pages = 0", "machine.pages: found 0, expected a whole number from 1"),
        (HEAD + "machine.min_pages = -5", "machine.min_pages: found -5, expected a whole number from 0"),
        (
            HEAD + "machine.pages = 4294967297",
            "machine.pages: found 4294967297, expected a whole number from 1 to 4294967296",
        ),
        (
            HEAD + "faults.loss_ppm = 1000001",
            "faults.loss_ppm: found 1000001, expected a whole number from 0 to 1000000",
        ),
        (HEAD + "machine.pages = 1.5", "machine.pages: found 1.5, expected a whole number from 1"),
        (HEAD + "machine.pages = true", "machine.pages: found true, expected a whole number from 1"),
        (HEAD + 'machine.pages = "many"', "machine.pages: found 'many', expected a whole number from 1"),
        (HEAD + "machine.pages = [1]", "machine.pages: found a list, expected a whole number from 1"),
        (
            HEAD + "machine.pages = 1979-05-27",
            "machine.pages: found 1979-05-27, expected a whole number from 1",
        ),
        (HEAD + "machine.raise_min = 1", "machine.raise_min: found 1, expected true or false"),
        (HEAD + 'machine = "big"', "machine: found 'big', expected a table: [machine]"),
        (
            HEAD + 'nic.driver = "e1000"',
            "nic.driver: found 'e1000', expected one of copy, recycle, empty, pool, worker",
        ),
        (
            HEAD + "nic.driver = false",
            "nic.driver: found false, expected one of copy, recycle, empty, pool, worker",
        ),
        (HEAD + '[user]\nname = "swap"', "user: found a table, expected a list of tables: [[user]]"),
        (HEAD + "user = [3]", "user[0]: found 3, expected a table: [user[0]]"),
        (HEAD + "[[user]]\n[[user]]\nname = 3", "user[1].name: found 3, expected a text"),
        ("claim = 1\nsource = 2", "claim: found 1, expected a text"),
        (ARM + 'without = "discard"', "arm[0].without: found 'discard', expected a list of texts"),
        (ARM + "without = [3]", "arm[0].without[0]: found 3, expected a text"),
        (ARM + "expect.simulate = 3", "arm[0].expect.simulate: found 3, expected a text"),
        (ARM + "set.machine = 3", "arm[0].set.machine: found 3, expected a table"),
        # Unknown and missing keys.
        (HEAD + "machine.pagse = 3", "machine.pagse: found a key that nothing reads, expected pages"),
        (
            HEAD + "colour = 3",
            "colour: found a key that nothing reads, expected one of claim, source, finding",
        ),
        (HEAD + "[[hook]]\nxyz = 3", "hook[0].xyz: found a key that nothing reads, expected one of kind"),
        ("", "claim: found nothing, expected a text"),
        ('claim = "a"', "source: found nothing, expected a text"),
        (HEAD + '[[arm]]\nname = "one"', "arm[0].design: found nothing, expected a text"),
        (HEAD + 'name = "x"', "name: found a key `name`, expected no such key: a case is called as its file"),
        # No TOML.
        (b"\xff\xfe", "byte 0: found no UTF-8, expected a TOML file in UTF-8"),
        ("a = ", "found no TOML: "),
        ("claim = 1\nclaim = 2", "found no TOML: "),
        ("a = " + "[" * 5000, "found no TOML: "),
        # Words.
        (
            ARM + 'without = ["discrad"]',
            f"arm[0].without: found 'discrad', expected a switch of a design: {SWITCHES[0]}",
        ),
        (
            ARM + 'expect.oracle = "SEEN"',
            "arm[0].expect: found 'oracle', expected a judge: simulate, prove, trial, check",
        ),
        (
            ARM + 'expect.simulate = "HOLDS"',
            "arm[0].expect.simulate: found 'HOLDS', expected one of STUCK, LUCKY, REFUSED, SEEN",
        ),
        (
            ARM + '[[arm]]\nname = "one"\ndesign = "bare"',
            "arm[0].name: found 'one' twice, expected each arm's name once",
        ),
        # What an arm sets.
        (
            ARM + "set.colour.x = 1",
            "arm 'one': set.colour: found no part 'colour', expected a part of a case: machine, nic",
        ),
        (
            ARM + "set.claim.x = 1",
            "arm 'one': set.claim: found no part 'claim', expected a part of a case: machine, nic",
        ),
        (
            ARM + "set.arm.x = 1",
            "arm 'one': set.arm: found no part 'arm', expected a part of a case: machine, nic",
        ),
        (
            ARM + "set.hook.read_ms = 1",
            "arm 'one': set.hook: found no [[hook]] that could be changed, expected at least one",
        ),
        (
            ARM + "set.machine.pages = 0",
            "arm 'one': set.machine.pages: found 0, expected a whole number from 1",
        ),
        (
            ARM + "set.user.colour = 1",
            "arm 'one': set.user[0].colour: found a key that nothing reads, expected one of name",
        ),
        (
            ARM + "set.machine.reserve_pages = 5000",
            "arm 'one': machine.reserve_pages: found 5000 of 4096 pages, expected a reserve smaller than memory",
        ),
    ],
)
def test_what_is_said(text: str | bytes, said: str) -> None:
    assert wrong(text).startswith(said)


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ("[machine]\npages = 100\nreserve_pages = 100", "machine.reserve_pages"),
        ("[machine]\nmin_pages = 4096", "machine.min_pages"),
        ("[machine]\nprograms_pages = 4090", "machine.programs_pages"),
        ("[machine]\npages = 512\nreserve_pages = 200", "machine.reserve_pages"),
        ("[machine]\npages = 1024\nmin_pages = 1000", "machine.min_pages"),
        ("[nic]\nring = 3000\nbuffer_bytes = 5000", "machine.programs_pages"),
        (
            "[machine]\npages = 210\nreserve_pages = 1\n[nic]\nring = 52\nbuffer_bytes = 9216",
            "machine.reserve_pages",
        ),
        ('[[user]]\n[[user]]\nname = "swap"', "user[0].name"),
        ('[[user]]\ntransport = "ftp"', "user[0].transport"),
        ("[[user]]\nconnects_ms = 30\nleaves_ms = 30", "user[0].leaves_ms"),
        ("[run]\nstorm_ms = 100\ngap_ms = 100", "run.gap_ms"),
    ],
)
def test_a_machine_that_cannot_be(table: str, place: str) -> None:
    assert wrong(HEAD + table).startswith(f"{place}: found ")


def test_a_case_without_a_user() -> None:
    assert wrong("user = []\n" + HEAD) == "user: found none, expected at least one block user"


def test_a_long_value_is_cut() -> None:
    assert len(wrong(HEAD + f'nic.driver = "{"x" * 10_000}"')) < 200


# Files.


def test_a_file_that_is_not_there_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="found No such file or directory, expected a case in TOML"):
        read_case(tmp_path / "none.toml")
    with pytest.raises(BadInput, match="found Is a directory, expected a case in TOML"):
        read_case(tmp_path)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.toml"
    path.write_text(HEAD + "#" * (SIZE_MAX_BYTES - len(HEAD)))
    assert read_case(path).name == "large"
    path.write_text(HEAD + "#" * (SIZE_MAX_BYTES + 1 - len(HEAD)))
    with pytest.raises(BadInput, match=f"found more than {SIZE_MAX_BYTES} bytes"):
        read_case(path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(Lacking, match=r"x\.toml: may not be read \(Permission denied\)"):
        read_case(tmp_path / "x.toml")


@pytest.mark.parametrize("text", ["", "machine = 3\n" + HEAD, "\0", HEAD + "machine.pages = -1"])
def test_the_command_says_it_in_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    assert main(["simulate", str(path)]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(path) in err
    assert ", expected " in err


# Arms.


def test_an_arm_sets_tables_and_every_user_alike() -> None:
    text = (
        HEAD
        + '[[user]]\nname = "a"\n[[user]]\nname = "b"\nconnections = 3\n'
        + '[[arm]]\nname = "one"\ndesign = "mail"\nset.user.queue_depth = 7\nset.machine.pages = 9000\n'
    )
    case = parse_case(text.encode(), "storm.toml")
    changed = arm_case(case, case.arm[0])
    assert changed.machine == msgspec.structs.replace(case.machine, pages=9000)
    assert [(user.name, user.connections, user.queue_depth) for user in changed.user] == [
        ("a", 1, 7),
        ("b", 3, 7),
    ]
    assert (changed.name, changed.nic, changed.arm) == (case.name, case.nic, case.arm)


def test_an_arm_that_sets_nothing_is_the_case() -> None:
    case = parse_case(ARM.encode(), "storm.toml")
    assert arm_case(case, case.arm[0]) is case


# Anything at all.

VALUES = st.recursive(
    st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["pages", "name", "x", "machine", "set", "design"]), inner, max_size=3
        ),
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["claim", "source", "x", *PARTS, "arm", "trial"]), VALUES, max_size=5))
def test_any_table_is_a_case_or_a_line(table: dict[str, object]) -> None:
    try:
        convert(table | {"name": "x"}, Case, "x.toml", MEANT)
    except BadInput as caught:
        error = caught
    else:
        return
    assert "" not in {error.place, error.found, error.expected}
    assert not error.expected.startswith("a case")  # the place was found


@given(st.binary(max_size=200))
def test_any_bytes_are_a_case_or_a_line(data: bytes) -> None:
    with pytest.raises(BadInput):
        parse_case(data, "x.toml")
