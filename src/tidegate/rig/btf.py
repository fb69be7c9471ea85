"""The smallest reader of BTF: where members of structures lie, and what enumerators are worth.

The format is Documentation/bpf/btf.rst. Only what a look into a kernel's memory needs is read: structures,
unions (nested ones without a name too), arrays, enumerations. Walking all of a kernel's BTF takes some 30 ms,
so nothing is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.errors import BadInput, Unsupported

_MAGIC = 0xEB9F
_POINTER_BYTES = 8
# enum of BTF_KIND_* (include/uapi/linux/btf.h): those that are looked at.
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _VOLATILE, _CONST = 1, 2, 3, 4, 5, 6, 8, 9, 10
_RESTRICT, _FLOAT, _TYPE_TAG, _ENUM64 = 11, 16, 18, 19
_FUNC_PROTO, _VAR, _DATASEC, _DECL_TAG = 13, 14, 15, 17
_SAME_AS_TARGET = {_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG}
# Bytes that follow the twelve of every type: fixed ones, and those for each of its `vlen` parts.
_FIXED = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_EACH = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
_DEEPEST = 32  # a chain of typedefs longer than this is a circle


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member, in bytes; `size` is of all elements when it is an array, `count` of the outermost dimension."""

    offset: int
    size: int
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Struct:
    """One structure: its sizeof() and the members that were asked for, by their path."""

    size: int
    members: Mapping[str, Member]


def offsets(btf: bytes, wanted: Mapping[str, Sequence[str]]) -> dict[str, Struct]:
    """Size and members of these structures; a path is `member` or `member.inner`, through arrays' elements too.

    Unsupported when the kernel has no such structure or member, or it is a bit field.
    """
    types = _Types(btf)
    found = {}
    for name, paths in wanted.items():
        number = types.named(name, (_STRUCT, _UNION))
        members = {path: types.member(number, name, path) for path in paths}
        found[name] = Struct(size=types.size(number), members=members)
    return found


def bit(btf: bytes, structure: str, member: str) -> tuple[int, int]:
    """Where a member of one bit lies: its byte's offset in the structure, and its mask in that byte.

    Unsupported when the kernel has no such structure or member, or it has more bits.
    """
    types = _Types(btf)
    found = types.bits(types.named(structure, (_STRUCT, _UNION)), member)
    if found is None or found[1] != 1:
        what = f"{found[1] or 'whole bytes, not'} bits" if found else "nothing"
        raise Unsupported(f"BTF: struct {structure}: found {what} of the name {member}, expected one bit")
    return found[0] // 8, 1 << found[0] % 8


def enumerators(btf: bytes, wanted: Sequence[str]) -> dict[str, dict[str, int]]:
    """All values of these enumerations, by name; Unsupported when the kernel has none of that name."""
    types = _Types(btf)
    return {name: types.values(types.named(name, (_ENUM,))) for name in wanted}


class _Types:
    """All types of a BTF blob by number, found where they lie: a kernel has 150,000, few are looked at."""

    def __init__(self, btf: bytes) -> None:
        if len(btf) < 24 or struct.unpack_from("<H", btf)[0] != _MAGIC:
            raise BadInput("BTF", "header", btf[:2].hex(), "9feb, a little-endian BTF blob")
        header, type_at, type_bytes, string_at, string_bytes = struct.unpack_from("<IIIII", btf, 4)
        self.data = btf[header + type_at : header + type_at + type_bytes]
        self.strings = btf[header + string_at : header + string_at + string_bytes]
        if len(self.data) != type_bytes or len(self.strings) != string_bytes:
            raise BadInput("BTF", "header", f"{len(btf)} bytes", "as many as the header tells")
        self.places = self._walk()

    def _walk(self) -> list[int]:
        places = [-1]  # number 0 is void and has no place
        at, data, fixed, each = 0, self.data, _FIXED, _EACH
        if len(data) % 4:
            raise BadInput("BTF", "types", f"{len(data)} bytes", "a multiple of 4")
        words = memoryview(data).cast("I")
        while at < len(data):
            places.append(at)
            info = words[at // 4 + 1] if at + 12 <= len(data) else 0
            kind = info >> 24 & 0x1F
            at += 12 + fixed.get(kind, 0) + each.get(kind, 0) * (info & 0xFFFF)
        if at != len(data):
            raise BadInput("BTF", "types", f"a type that ends at byte {at}", f"the last at {len(data)}")
        return places

    def head(self, number: int) -> tuple[int, int, int, int, int]:
        """Offset of the name, kind, number of parts, size or target, place of what follows."""
        if not 0 < number < len(self.places):
            raise BadInput("BTF", "types", f"number {number}", f"1 to {len(self.places) - 1}")
        place = self.places[number]
        name, info, size = struct.unpack_from("<III", self.data, place)
        return name, info >> 24 & 0x1F, info & 0xFFFF, size, place + 12

    def string(self, offset: int) -> str:
        """The string at an offset."""
        return self.strings[offset : self.strings.index(b"\0", offset)].decode()

    def named(self, name: str, kinds: Sequence[int]) -> int:
        """The number of the first type of this name and kind: the kernel's own build keeps one of each."""
        for number in range(1, len(self.places)):
            offset, kind, parts, _size, _place = self.head(number)
            if kind in kinds and parts and self.string(offset) == name:
                return number
        raise Unsupported(f"BTF: found no {'enum' if _ENUM in kinds else 'struct'} {name}, expected one")

    def values(self, number: int) -> dict[str, int]:
        """Names and values of an enumeration."""
        _name, _kind, parts, _size, place = self.head(number)
        pairs = (struct.unpack_from("<Ii", self.data, place + 8 * part) for part in range(parts))
        return {self.string(name): value for name, value in pairs}

    def resolved(self, number: int) -> int:
        """The type behind typedefs and qualifiers."""
        for _ in range(_DEEPEST):
            _name, kind, _parts, target, _place = self.head(number)
            if kind not in _SAME_AS_TARGET:
                return number
            number = target
        raise BadInput("BTF", f"type {number}", "typedefs in a circle", "an end")

    def size(self, number: int) -> int:
        """sizeof(), in bytes."""
        number = self.resolved(number)
        _name, kind, _parts, size, place = self.head(number)
        if kind == _PTR:
            return _POINTER_BYTES
        if kind == _ARRAY:
            element, _index, count = struct.unpack_from("<III", self.data, place)
            return int(count) * self.size(element)
        if kind in (_INT, _STRUCT, _UNION, _ENUM, _FLOAT, _ENUM64):
            return size
        raise Unsupported(f"BTF: type {number} is of kind {kind}, expected one that has a size")

    def member(self, number: int, name: str, path: str) -> Member:
        """One member by its path; `name` is the structure's, for messages."""
        offset, member_type = 0, number
        for step in path.split("."):
            found = self._step(self._element(member_type), step)
            if found is None:
                raise Unsupported(f"BTF: struct {name} has no member {path}, expected one")
            inner, member_type = found
            offset += inner
        count, resolved = 1, self.resolved(member_type)
        if self.head(resolved)[1] == _ARRAY:
            count = struct.unpack_from("<III", self.data, self.head(resolved)[4])[2]
        return Member(offset=offset, size=self.size(resolved), count=count)

    def _element(self, number: int) -> int:
        """The type itself, or that of an array's elements."""
        number = self.resolved(number)
        while self.head(number)[1] == _ARRAY:
            number = self.resolved(struct.unpack_from("<I", self.data, self.head(number)[4])[0])
        return number

    def _step(self, number: int, wanted: str) -> tuple[int, int] | None:
        """Offset and type of a member, also of those that lie in a member without a name."""
        found = self.bits(number, wanted)
        if found is None:
            return None
        first, width, member_type = found
        if width or first % 8:
            raise Unsupported(f"BTF: member {wanted} is a bit field, expected whole bytes")
        return first // 8, member_type

    def bits(self, number: int, wanted: str) -> tuple[int, int, int] | None:
        """First bit, bits (0: no bit field) and type of a member, also of those in a member without a name."""
        _name, kind, parts, _size, place = self.head(number)
        if kind not in (_STRUCT, _UNION):
            return None
        has_bit_fields = struct.unpack_from("<I", self.data, place - 8)[0] >> 31
        for part in range(parts):
            name, inner, bits = struct.unpack_from("<III", self.data, place + 12 * part)
            width = bits >> 24 if has_bit_fields else 0
            offset = bits & 0xFFFFFF if has_bit_fields else bits
            if name and self.string(name) == wanted:
                return offset, width, inner
            if not name:
                below = self.bits(self.resolved(inner), wanted)
                if below is not None:
                    return offset + below[0], below[1], below[2]
        return None
