"""Campaign files: which jobs come out, in which order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.errors import BadInput
from tidegate.rig.campaign_file import Planned, read_campaign

CASE = """\
claim = "a machine locks up"
source = "a test"
[trial]
memory_mib = 112
[[trial.arm]]
name = "stock"
expect = "FAIL"
[[trial.arm]]
name = "plan"
expect = "SURVIVED"
"""


def planned(tmp_path: Path, text: str, **cases: str) -> tuple[Planned, ...]:
    (tmp_path / "one.toml").write_text(CASE)
    for name, case in cases.items():
        (tmp_path / f"{name}.toml").write_text(case)
    path = tmp_path / "campaign"
    path.write_text(text)
    return read_campaign(path)


def rows(plan: tuple[Planned, ...]) -> list[tuple[object, ...]]:
    return [
        (one.job.seed, one.job.arm, one.job.nic, *(value for _, value in sorted(one.job.sweep.items())))
        for one in plan
    ]


def test_arms_take_turns_and_what_is_left_out_is_the_cases(tmp_path: Path) -> None:
    plan = planned(tmp_path, 'cases = ["one.toml"]\nn = 3')
    assert rows(plan) == [(seed, arm, "virtio-net-pci") for seed in (1, 2, 3) for arm in ("stock", "plan")]
    assert {(one.job.kernel, one.job.transport, one.memory_mib) for one in plan} == {
        ("trixie-cloud", "nbd", 112)
    }
    assert [one.expected for one in plan[:2]] == ["FAIL", "SURVIVED"]
    assert plan[0].job.case == str(tmp_path / "one.toml")


def test_a_matrix_is_every_place_and_seed_one_of_all_comes_first(tmp_path: Path) -> None:
    text = 'cases = ["one.toml"]\nnics = ["a", "b", "a"]\narms = ["plan", "stock"]\nn = 2\nseed = 7\n'
    text += '[[sweep]]\nkey = "delay_us"\nvalues = [0, 5]\n[[sweep]]\nkey = "memory_mib"\nvalues = [200]'
    plan = planned(tmp_path, text)
    assert rows(plan) == [
        (seed, arm, nic, delay, 200)
        for seed in (7, 8)
        for nic in ("a", "b")
        for delay in (0, 5)
        for arm in ("stock", "plan")
    ]
    assert {one.memory_mib for one in plan} == {200}
    assert len({one.job.key() for one in plan}) == len(plan)
    assert plan == planned(tmp_path, text)


def test_some_places_are_left_out_kept_alone_or_tried_more_often(tmp_path: Path) -> None:
    text = 'cases = ["one.toml"]\nnics = ["a", "b"]\ntransports = ["nbd", "iscsi"]\nn = 1\n'
    left = planned(tmp_path, text + '[[leave_out]]\nnics = ["b"]\ntransports = ["iscsi"]\n')
    assert {(one.job.nic, one.job.transport) for one in left} == {("a", "nbd"), ("a", "iscsi"), ("b", "nbd")}
    only = planned(
        tmp_path, text + '[[only]]\ntransports = ["nbd"]\n[[only]]\nnics = ["a"]\narms = ["stock"]\n'
    )
    assert {(one.job.nic, one.job.transport, one.job.arm) for one in only} == {
        ("a", "nbd", "stock"), ("a", "nbd", "plan"), ("b", "nbd", "stock"), ("b", "nbd", "plan"),
        ("a", "iscsi", "stock"),
    }  # fmt: skip
    more = planned(tmp_path, text + '[[cell]]\nn = 2\n[[cell]]\nnics = ["a"]\ncases = ["one"]\nn = 4\n')
    assert [one.job.nic for one in more].count("a") == 4 * 2 * 2
    assert [one.job.nic for one in more].count("b") == 2 * 2 * 2
    assert [one.job.seed for one in more] == sorted(one.job.seed for one in more)


def test_a_bundled_case_goes_by_its_name(tmp_path: Path) -> None:
    plan = planned(tmp_path, 'cases = ["deadlock", "one.toml"]\narms = ["stock"]\nn = 1')
    assert [one.job.case for one in plan] == ["deadlock", str(tmp_path / "one.toml")]


def test_an_arm_that_only_some_cases_have(tmp_path: Path) -> None:
    other = CASE.replace('"plan"', '"tenfold"')
    plan = planned(tmp_path, 'cases = ["one.toml", "two.toml"]\narms = ["plan", "stock"]\nn = 1', two=other)
    assert [(Path(one.job.case).name, one.job.arm) for one in plan] == [
        ("one.toml", "stock"), ("one.toml", "plan"), ("two.toml", "stock"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cases: found nothing, expected a list"),
        ("cases = []", "found 0 trials, expected from 1"),
        ('cases = ["one.toml"]\nnisc = ["a"]', "nisc: found a key that nothing reads, expected nics"),
        ('cases = ["one.toml"]\nn = 0', "n: found 0, expected a whole number from 1"),
        ('cases = ["none.toml"]', "none.toml: found No such file"),
        ('cases = ["no-such-case"]', "cases[0]: found 'no-such-case'"),
        ('cases = ["one.toml", "one.toml"]', "cases[1]: found 'one' twice"),
        ('cases = ["one.toml", "bare.toml"]', "cases[1]: found 'bare.toml', which has no [trial] part"),
        ('cases = ["one.toml"]\narms = ["stok"]', "arms[0]: found 'stok', expected an arm of a case: stock, plan"),
        ('cases = ["one.toml"]\n[[sweep]]\nkey = "nic"\nvalues = [1]', "sweep[0].key: found 'nic'"),
        ('cases = ["one.toml"]\n[[sweep]]\nkey = "delay_us"\nvalues = []', "sweep[0].values: found an empty"),
        ('cases = ["one.toml"]\n[[sweep]]\nkey = "delay_us"\nvalues = [-1]', "sweep[0].values[0]: found -1"),
        ('cases = ["one.toml"]\n[[sweep]]\nkey = "loss_ppm"\nvalues = [0, 9999999]', "values[1]: loss_ppm: found 99"),
        (
            'cases = ["one.toml"]\n[[sweep]]\nkey = "ring"\nvalues = [1]\n[[sweep]]\nkey = "ring"\nvalues = [2]',
            "sweep[0].key: found 'ring' twice",
        ),
        ('cases = ["one.toml"]\n[[leave_out]]\nnics = ["e100"]', "leave_out[0]: found what is nowhere"),
        ('cases = ["one.toml"]\n[[only]]\nsweep = {delay_us = 3}', "only[0]: found what is nowhere"),
        ('cases = ["one.toml"]\n[[cell]]\narms = ["x"]\nn = 3', "cell[0]: found what is nowhere"),
        ('cases = ["one.toml"]\n[[leave_out]]\n', "found 0 trials"),
        ("cases = [", "no TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_that_says_where(tmp_path: Path, text: str, words: str) -> None:
    bare = CASE[: CASE.index("[trial]")]
    with pytest.raises(BadInput) as caught:
        planned(tmp_path, text, bare=bare)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sysctl_is_swept_and_nothing_is_expected_of_it(tmp_path: Path) -> None:
    text = 'cases = ["one.toml"]\nn = 1\narms = ["stock"]\n'
    text += '[[sweep]]\nkey = "vm.min_free_kbytes"\nvalues = [1000, 2000]'
    plan = planned(tmp_path, text)
    assert rows(plan) == [(1, "stock", "virtio-net-pci", 1000), (1, "stock", "virtio-net-pci", 2000)]
    assert [one.expected for one in plan] == [None, None]
