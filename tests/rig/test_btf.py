"""Offsets and enumerators out of a BTF blob made by hand."""

from __future__ import annotations

import struct

import pytest

from tidegate.errors import BadInput, Unsupported
from tidegate.rig import btf
from tidegate.rig.btf import Member, Struct


class Blob:
    """Types in the order they are added, numbered from 1."""

    def __init__(self) -> None:
        self.types, self.strings, self.count = b"", b"\0", 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text.encode()) - 1

    def add(
        self, name: str, kind: int, parts: int, size: int, rest: bytes = b"", *, flag: bool = False
    ) -> int:
        self.types += struct.pack("<III", self.name(name), flag << 31 | kind << 24 | parts, size) + rest
        self.count += 1
        return self.count

    def structure(
        self, name: str, size: int, members: list[tuple[str, int, int]], *, kind: int = 4, flag: bool = False
    ) -> int:
        rest = b"".join(struct.pack("<III", self.name(who), what, bits) for who, what, bits in members)
        return self.add(name, kind, len(members), size, rest, flag=flag)

    def array(self, element: int, count: int) -> int:
        return self.add("", 3, 0, 0, struct.pack("<III", element, 1, count))

    def enumeration(self, name: str, values: dict[str, int]) -> int:
        rest = b"".join(struct.pack("<Ii", self.name(who), value) for who, value in values.items())
        return self.add(name, 6, len(values), 4, rest)

    def bytes(self) -> bytes:
        lengths = (24, 0, len(self.types), len(self.types), len(self.strings))
        return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, *lengths) + self.types + self.strings


def made() -> bytes:
    blob = Blob()
    long = blob.add("long", 1, 0, 8, bytes(4))  # 1
    word = blob.add("u64", 8, 0, long)  # 2: typedef
    qualified = blob.add("", 9, 0, word)  # 3: volatile
    marks = blob.array(qualified, 4)  # 4
    blob.add("zone", 7, 0, 0)  # 5: forward declaration, of the same name
    pointer = blob.add("", 2, 0, 5)  # 6
    inner = blob.structure("", 16, [("a", word, 0), ("b", pointer, 64)])  # 7
    union = blob.structure("", 16, [("", inner, 0), ("raw", marks, 0)], kind=5)  # 8
    atomic = blob.structure("atomic_long_t", 8, [("counter", long, 0)])  # 9
    stats = blob.array(atomic, 12)  # 10
    blob.add("helper", 12, 1, blob.add("", 13, 2, 0, bytes(16)))  # 11 and 12: what is passed over
    blob.add("counter", 14, 0, long, bytes(4))  # 13
    blob.add(".data", 15, 2, 8, bytes(24))  # 14
    blob.enumeration("wide", {"W": 1})  # 15
    blob.add("big", 19, 1, 8, bytes(12))  # 16
    zone = blob.structure(
        "zone", 160, [("_watermark", marks, 0), ("", union, 256), ("vm_stat", stats, 512)]
    )  # 17
    zones = blob.array(zone, 5)  # 18
    blob.structure("pglist_data", 808, [("node_zones", zones, 0), ("node_id", long, 6400)])
    blob.structure("flags", 8, [("odd", long, 3 << 24), ("whole", long, 0 << 24 | 32)], flag=True)
    blob.enumeration("zone_stat_item", {"NR_FREE_PAGES": 0, "NR_LAST": 11, "NR_NONE": -1})
    return blob.bytes()


def test_members_are_found_also_in_unions_without_a_name_and_in_arrays() -> None:
    found = btf.offsets(
        made(),
        {
            "zone": ["_watermark", "a", "b", "raw", "vm_stat", "vm_stat.counter"],
            "pglist_data": ["node_zones", "node_zones.b", "node_id"],
        },
    )
    assert found == {
        "zone": Struct(
            size=160,
            members={
                "_watermark": Member(offset=0, size=32, count=4),
                "a": Member(offset=32, size=8),
                "b": Member(offset=40, size=8),
                "raw": Member(offset=32, size=32, count=4),
                "vm_stat": Member(offset=64, size=96, count=12),
                "vm_stat.counter": Member(offset=64, size=8),
            },
        ),
        "pglist_data": Struct(
            size=808,
            members={
                "node_zones": Member(offset=0, size=800, count=5),
                "node_zones.b": Member(offset=40, size=8),
                "node_id": Member(offset=800, size=8),
            },
        ),
    }


def test_enumerators_have_their_values() -> None:
    found = btf.enumerators(made(), ["zone_stat_item", "wide"])
    assert found == {"zone_stat_item": {"NR_FREE_PAGES": 0, "NR_LAST": 11, "NR_NONE": -1}, "wide": {"W": 1}}


def test_bit_fields_are_refused_and_whole_members_beside_them_are_not() -> None:
    assert btf.offsets(made(), {"flags": ["whole"]})["flags"].members["whole"].offset == 4
    with pytest.raises(Unsupported, match="odd is a bit field"):
        btf.offsets(made(), {"flags": ["odd"]})


def test_a_bit_is_a_byte_and_a_mask() -> None:
    blob = Blob()
    word = blob.add("u8", 1, 0, 1, bytes(4))
    inner = blob.structure("", 2, [("a", word, 1 << 24 | 3), ("b", word, 1 << 24 | 14)], flag=True)
    blob.structure("sk_buff", 8, [("len", word, 0), ("", inner, 32), ("two", word, 2 << 24 | 48)], flag=True)
    assert btf.bit(blob.bytes(), "sk_buff", "a") == (4, 0x08)
    assert btf.bit(blob.bytes(), "sk_buff", "b") == (5, 0x40)
    for member, words in {"len": "whole bytes", "two": "2 bits", "none": "nothing"}.items():
        with pytest.raises(Unsupported, match=words):
            btf.bit(blob.bytes(), "sk_buff", member)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"page": ["lru"]}, "no struct page"),
        ({"zone": ["boost"]}, "struct zone has no member boost"),
        ({"zone": ["vm_stat.counter.more"]}, "no member vm_stat.counter.more"),
    ],
)
def test_what_is_not_there_is_named(wanted: dict[str, list[str]], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        btf.offsets(made(), wanted)
    with pytest.raises(Unsupported, match="no enum zone_type"):
        btf.enumerators(made(), ["zone_type"])


@pytest.mark.parametrize("cut", [0, 10, 30, len(made()) - 1])
def test_a_blob_that_was_cut_is_bad_input(cut: int) -> None:
    with pytest.raises(BadInput):
        btf.offsets(made()[:cut], {"zone": ["a"]})


def test_a_type_that_does_not_end_where_the_types_end_is_bad_input() -> None:
    blob = Blob()
    blob.structure("zone", 8, [("a", 1, 0)])
    blob.types = blob.types[:-8]
    with pytest.raises(BadInput, match="ends at byte 24"):
        btf.offsets(blob.bytes(), {"zone": ["a"]})


def test_typedefs_in_a_circle_are_bad_input() -> None:
    blob = Blob()
    blob.add("t", 8, 0, 1)
    blob.structure("zone", 8, [("a", 1, 0)])
    with pytest.raises(BadInput, match="circle"):
        btf.offsets(blob.bytes(), {"zone": ["a"]})
