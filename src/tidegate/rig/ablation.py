"""Taking single parts of mainline's reserve out of a stock kernel, while it runs, by a few bytes of its text.

A hand-built kernel without a part is another kernel: other code around it, other timing. Here the image stays the
one that the distribution ships, and of each removal the very bytes are told. The place is found by what the code
says (a test of this bit, followed by a conditional jump), never by an offset; where it is not found as often as it
must be, nothing is written and the kernel is refused. The guest stands between two instructions while it is done,
and only whole instructions change, or the mask in one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

from tidegate.errors import BadInput, Lacking, Unsupported
from tidegate.rig import btf
from tidegate.rig.gdb_stub import SOCKET, GdbStub, attached
from tidegate.rig.kernels import Kernel
from tidegate.rig.ram import KernelMemory
from tidegate.rig.symbols import probe, symbols
from tidegate.rig.trial_guest import Guest
from tidegate.rig.vmlinux import section, uncompressed

ALLOC_NO_WATERMARKS = 0x4  # mm/internal.h
NODE_RECLAIM_BITS = (
    0x7  # RECLAIM_ZONE | RECLAIM_WRITE | RECLAIM_UNMAP, in mm/internal.h:node_reclaim_enabled()
)
KEY = "memalloc_socks_key"
SETTING = "ablate:"
_PAGE = 4096
_HEAD_BYTES = 32  # of a function that only returns at once
_NOP5 = bytes.fromhex("0f1f440000")
_ENDBR64 = bytes.fromhex("f30f1efa")
_RETURN = {None: b"\xc3", 0: b"\x31\xc0\xc3"}  # ret; xor eax, eax and ret


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A function as it stands in the guest's memory, and what its parts are known by."""

    name: str
    address: int
    code: bytes
    pfmemalloc: tuple[int, int] = (0, 0)  # skb->pfmemalloc: offset of its byte, mask
    targets: Mapping[str, int] | None = None  # addresses of other functions


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Bytes that change."""

    address: int
    was: bytes
    becomes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What changes in one function."""

    symbol: str
    patches: Callable[[Text], Sequence[Patch]]
    module: str = ""
    calls: tuple[str, ...] = ()  # functions whose addresses `patches` wants


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """What is seen at the end of a trial."""

    key: int  # memalloc_socks_key.enabled
    readings: Mapping[str, int]  # of the agent's page of counters
    margin_pages: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """One removal."""

    takes_away: str
    edits: tuple[Edit, ...]
    seen: str  # what must be 0 at the end where it is in force: KEY, or a reading's name; empty: nothing shows it
    kernels: tuple[str, ...] = ("6.1", "6.12")  # where it was found and tried


def returns(value: int | None, text: Text) -> Sequence[Patch]:
    """The function returns at once, with 0 or (None) with whatever: a plain `ret` does under emulation.

    Written over the first instruction, which is ftrace's place to call from (a NOP of five bytes): no CPU can stand
    within it. Unsupported where that instruction is too short.
    """
    start = len(_ENDBR64) if text.code.startswith(_ENDBR64) else 0
    first = next(iter(_instructions(text, start)), None)
    new = _RETURN[value]
    if first is None or first.size < len(new):
        found = text.code[start : start + 8].hex()
        raise Unsupported(f"{text.name}: found {found} at its start, expected a NOP of 5 bytes for ftrace")
    return [_patch(text, start, new + b"\x90" * (first.size - len(new)))]


def never_marked(times: int, text: Text) -> Sequence[Patch]:
    """The function takes no skb for one with pfmemalloc: the mask of each test of that bit becomes 0.

    Either `test byte [skb+N], mask` and a conditional jump, or the byte loaded and `and reg, mask` later on.
    """
    offset, mask = text.pfmemalloc
    loaded: set[str] = set()
    found = []
    for one, after in pairwise(_instructions(text)):
        if _tests_memory(one, mask) and one.operands[0].mem.disp == offset and _is_conditional(after):
            found.append(_zero_mask(text, one))
        elif one.mnemonic == "movzx" and _reads(one, offset):
            loaded.add(_whole(one, one.operands[0].reg))
        elif (
            one.mnemonic == "and" and _is_immediate(one, mask) and _whole(one, one.operands[0].reg) in loaded
        ):
            found.append(_zero_mask(text, one))
    return _as_often(text, found, times, f"tests of skb->pfmemalloc (byte {offset:#x}, bit {mask:#x})")


def keeps_watermarks(text: Text) -> Sequence[Patch]:
    """get_page_from_freelist() heeds the watermark also for ALLOC_NO_WATERMARKS.

    The request then has `min` as its floor. The test of alloc_flags, which lie on the stack, stands between the
    watermark's and node_reclaim_enabled()'s.
    """
    code = _instructions(text)
    found = [
        _zero_mask(text, one)
        for one, jump, after in zip(code, code[1:], code[2:], strict=False)
        if _tests_memory(one, ALLOC_NO_WATERMARKS)
        and one.reg_name(one.operands[0].mem.base) in {"rsp", "rbp"}
        and _is_conditional(jump)
        and _tests_memory(after, NODE_RECLAIM_BITS)
    ]
    return _as_often(text, found, 1, "tests of ALLOC_NO_WATERMARKS before node_reclaim_enabled()")


def never_calls(callee: str, text: Text) -> Sequence[Patch]:
    """The one call of `callee` is left out; where it is the function's last act, the function returns instead."""
    assert text.targets is not None
    found = [
        _patch(text, one.address - text.address, _NOP5 if one.mnemonic == "call" else b"\xc3" + b"\x90" * 4)
        for one in _instructions(text)
        if one.mnemonic in {"call", "jmp"}
        and one.size == 5
        and one.operands[0].imm == _signed(text.targets[callee])
    ]
    return _as_often(text, found, 1, f"calls of {callee}")


_FLAG = "sk_set_memalloc"
ABLATIONS: Mapping[str, Ablation] = {
    "sk_set_memalloc": Ablation(
        takes_away="the whole of it: no socket is SOCK_MEMALLOC, and receiving never uses the reserve for any",
        edits=(Edit(symbol=_FLAG, patches=partial(returns, None)),),
        seen=KEY,
    ),
    "skb-reserve": Ablation(
        takes_away=f"only {KEY}: sockets are SOCK_MEMALLOC, but no skb for receiving is made from the reserve; "
        "drivers that take pages by dev_alloc_pages() still do",
        edits=(
            Edit(
                symbol=_FLAG,
                patches=partial(never_calls, "static_key_slow_inc"),
                calls=("static_key_slow_inc",),
            ),
        ),
        seen=KEY,
    ),
    "pfmemalloc-drop": Ablation(
        takes_away="the drop: what arrived in the reserve goes to sockets without SOCK_MEMALLOC too",
        edits=(
            Edit(symbol="sk_filter_trim_cap", patches=partial(never_marked, 1)),
            # The second line of defence, sk_add_backlog(), stands within it.
            Edit(symbol="tcp_add_backlog", patches=partial(never_marked, 1)),
        ),
        seen="pfmemalloc_drop",
    ),
    "alloc-no-watermarks": Ablation(
        takes_away="the reserve: __GFP_MEMALLOC and PF_MEMALLOC end at the min watermark, above GFP_ATOMIC's floor",
        edits=(Edit(symbol="get_page_from_freelist", patches=keeps_watermarks),),
        seen="",
    ),
    "tcp-rmem": Ablation(
        takes_away="sk_rmem_schedule()'s exemption: over tcp_mem, a reply that arrived in the reserve is refused too",
        edits=(Edit(symbol="tcp_try_rmem_schedule", patches=partial(never_marked, 2)),),
        seen="",
    ),
    "throttle_direct_reclaim": Ablation(
        takes_away="the only throttle: tasks in direct reclaim no longer wait while half of min is gone",
        edits=(Edit(symbol="throttle_direct_reclaim", patches=partial(returns, 0)),),
        seen="throttled",
    ),
    "refill-worker": Ablation(
        takes_away="virtio_net's worker, which refills the ring with GFP_KERNEL while no packet is received",
        edits=(Edit(symbol="refill_work", patches=partial(returns, None), module="virtio_net"),),
        seen="",
    ),
}
# Hunk of the mail, what mainline has in its place, and the removal that takes just that away; empty: none does.
HUNKS: tuple[tuple[str, str, str], ...] = (
    ("gfp.h: __GFP_MEMALLOC", "__GFP_MEMALLOC, ALLOC_NO_WATERMARKS", "alloc-no-watermarks"),
    ("page_alloc.c: __alloc_pages", "__gfp_pfmemalloc_flags, get_page_from_freelist", "alloc-no-watermarks"),
    (
        "skbuff.h: dev_alloc_skb_reserve",
        "__netdev_alloc_skb, napi_alloc_skb under memalloc_socks_key",
        "skb-reserve",
    ),
    ("skbuff.h: is_memalloc_skb", "skb->pfmemalloc", ""),
    ("skbuff.c: the mark is not copied", "__skb_clone copies it", ""),
    ("sock.h: SOCK_MEMALLOC", "sk_set_memalloc", "sk_set_memalloc"),
    ("dev.c: netif_rx", "", ""),
    ("tcp_ipv4.c: tcp_v4_rcv", "sk_filter_trim_cap, sk_add_backlog", "pfmemalloc-drop"),
    ("text: throttling higher up", "throttle_direct_reclaim", "throttle_direct_reclaim"),
    ("", "sk_rmem_schedule", "tcp-rmem"),
    ("", "virtio_net: refill_work", "refill-worker"),
)


def table() -> list[tuple[str, str, str]]:
    """For the books: hunk of the mail, mainline's counterpart, name of the removal."""
    return list(HUNKS)


def check_names(names: Sequence[str], file: str, place: str) -> None:
    """BadInput for a removal that is none."""
    for name in names:
        if name not in ABLATIONS:
            raise BadInput(file, place, repr(SETTING + name), f"{SETTING} and one of {', '.join(ABLATIONS)}")


def apply(names: Sequence[str], guest: Guest, kernel: Kernel, memory: KernelMemory) -> dict[str, str]:
    """Takes these out of a guest that has booted, before a block user connects; what was written, for the record.

    The guest must have been started with a gdb stub. All places are found before the first byte is written.
    Unsupported where this kernel has not what is to go; Lacking where the bytes do not read back.
    """
    if not memory.booted():
        raise Lacking(f"kernel {kernel.release}: not the one that runs in the guest, or not booted so far")
    found: dict[str, list[tuple[Text, Sequence[Patch]]]] = {}
    for name in names:
        for edit in ABLATIONS[name].edits:
            text = _text(edit, guest, kernel, memory)
            found.setdefault(name, []).append((text, edit.patches(text)))
    told = {}
    with attached(guest.folder / SOCKET) as stub:
        stub.use_physical_addresses()
        for name, pairs in found.items():
            parts = [_written(stub, memory, text, patch) for text, patches in pairs for patch in patches]
            told[f"{SETTING}{name}"] = "; ".join(parts)
    return told


def after(
    kernel: Kernel, memory: KernelMemory, readings: Mapping[str, int], margin_pages: int | None
) -> After:
    """What is to be looked at when the trial is over."""
    address = symbols(kernel, [KEY])[KEY]
    key = int.from_bytes(memory.read(address, 4), "little", signed=True)  # static_key.enabled is an atomic_t
    return After(key=key, readings=readings, margin_pages=margin_pages)


def effects(names: Sequence[str], seen: After) -> tuple[dict[str, str], str]:
    """For each removal what shows that it was in force, for the record; and the first that shows the contrary."""
    told, trouble = {}, ""
    for name in names:
        what = ABLATIONS[name].seen
        value = seen.key if what == KEY else seen.readings.get(what, 0)
        place = f"{SETTING}{name}: effect"
        if what:
            told[place] = f"{what} is {value} at the end" + ("" if value == 0 else ", expected 0")
            if value and not trouble:
                trouble = f"{SETTING}{name} was not in force: {told[place]}"
        elif name == "alloc-no-watermarks" and seen.margin_pages is not None:
            told[place] = f"lowest margin {seen.margin_pages} pages above GFP_ATOMIC's floor"
        else:
            told[place] = "nothing in the guest shows it"
    return told, trouble


def _text(edit: Edit, guest: Guest, kernel: Kernel, memory: KernelMemory) -> Text:
    if edit.module:
        address, length = _module_symbol(guest, edit.module, edit.symbol), _HEAD_BYTES
    else:
        address = symbols(kernel, [edit.symbol])[edit.symbol]
        length = _length(kernel, address)
    targets = symbols(kernel, edit.calls) if edit.calls else None
    code = read_text(memory, address, length)
    return Text(name=edit.symbol, address=address, code=code, pfmemalloc=_pfmemalloc(kernel), targets=targets)


def read_text(memory: KernelMemory, address: int, length: int) -> bytes:
    """Kernel text by its pages: a module's lie anywhere."""
    found = b""
    while len(found) < length:
        at = address + len(found)
        found += memory.read(at, min(length - len(found), _PAGE - at % _PAGE))
    return found


def _written(stub: GdbStub, memory: KernelMemory, text: Text, patch: Patch) -> str:
    """Writes one patch byte by byte, since its page may end within it; what was written, for the record."""
    for place, byte in enumerate(patch.becomes):
        physical = memory.physical(patch.address + place)
        if patch.was[place] != byte:
            stub.write(physical, bytes((byte,)))
        if stub.read(physical, 1) != bytes((byte,)):
            raise Lacking(f"{text.name}: {patch.address + place:#x} does not read back as written")
    if read_text(memory, patch.address, len(patch.becomes)) != patch.becomes:
        raise Lacking(f"{text.name}: the guest's RAM has not what was written at {patch.address:#x}")
    at = f"{text.name}+{patch.address - text.address:#x} at {patch.address:#x}"
    return f"{at}, {len(patch.was)} bytes, was {patch.was.hex()}, is {patch.becomes.hex()}, read back"


def _module_symbol(guest: Guest, module: str, name: str) -> int:
    """The address of a module's function, as the guest itself tells it: modules are loaded anywhere."""
    script = b"grep -w '%b.*%b' /proc/kallsyms >/tmp/symbol\n:\n" % (name.encode(), module.encode())
    guest.obey(f"file /tmp/symbol.sh {len(script)}", data=script)
    guest.obey("run /bin/sh /tmp/symbol.sh")
    said = "\n".join(guest.obey("print /tmp/symbol"))
    guest.obey("run /bin/rm /tmp/symbol /tmp/symbol.sh")
    found = re.findall(rf"^([0-9a-f]+) [tT] {re.escape(name)}\s+\[{re.escape(module)}\]$", said, re.MULTILINE)
    if len(found) != 1 or int(found[0], 16) == 0:
        raise Unsupported(f"module {module}: found {len(found)} functions {name} in the guest, expected one")
    return int(found[0], 16)


@cache
def _pfmemalloc(kernel: Kernel) -> tuple[int, int]:
    return btf.bit(section(uncompressed(kernel.vmlinuz), ".BTF"), "sk_buff", "pfmemalloc")


@cache
def _starts(kernel: Kernel) -> tuple[int, ...]:
    found = re.findall(r"^([0-9a-f]+) [tTwW] ", probe(kernel).kallsyms, re.MULTILINE)
    return tuple(sorted({int(address, 16) for address in found}))


def _length(kernel: Kernel, address: int) -> int:
    """Bytes to the next function; the padding between them is NOPs."""
    import bisect

    starts = _starts(kernel)
    place = bisect.bisect_right(starts, address)
    assert place < len(starts), hex(address)
    return starts[place] - address


def _instructions(text: Text, start: int = 0) -> list[Any]:
    """The function's instructions; capstone ends at the first byte that is none."""
    from capstone import CS_ARCH_X86, CS_MODE_64, Cs

    decoder = Cs(CS_ARCH_X86, CS_MODE_64)
    decoder.detail = True
    return list(decoder.disasm(text.code[start:], text.address + start))


def _tests_memory(one: Any, mask: int) -> bool:
    return one.mnemonic == "test" and _is_immediate(one, mask) and _in_memory(one.operands[0])


def _in_memory(operand: Any) -> bool:
    from capstone.x86 import X86_OP_MEM

    return bool(operand.type == X86_OP_MEM)


def _is_immediate(one: Any, value: int) -> bool:
    from capstone.x86 import X86_OP_IMM

    return len(one.operands) == 2 and one.operands[1].type == X86_OP_IMM and one.operands[1].imm == value


def _reads(one: Any, offset: int) -> bool:
    source = one.operands[1]
    return _in_memory(source) and source.size == 1 and source.mem.disp == offset


def _whole(one: Any, register: int) -> str:
    """One name for a register and its parts: rbp, ebp, bp and bpl are all bp."""
    name = str(one.reg_name(register))
    return re.sub(r"^[re]?([abcd])[xl]$|^[re]?(si|di|bp|sp)l?$|^(r\d+)[dwb]?$", r"\1\2\3", name)


def _is_conditional(one: Any) -> bool:
    return one.mnemonic.startswith("j") and one.mnemonic not in {"jmp", "jrcxz", "jecxz"}


def _zero_mask(text: Text, one: Any) -> Patch:
    """The mask, which is the end of the instruction, becomes 0: the bit is then always clear."""
    at, size = one.encoding.imm_offset, one.encoding.imm_size
    assert at + size == one.size, one.bytes.hex()
    return _patch(text, one.address - text.address, bytes(one.bytes[:at]) + bytes(size))


def _patch(text: Text, at: int, becomes: bytes) -> Patch:
    return Patch(address=text.address + at, was=text.code[at : at + len(becomes)], becomes=becomes)


def _as_often(text: Text, found: Sequence[Patch], times: int, what: str) -> Sequence[Patch]:
    if len(found) != times:
        raise Unsupported(f"{text.name}: found {len(found)} {what}, expected {times}")
    return found


def _signed(address: int) -> int:
    """As capstone tells an address of a call in 64-bit code."""
    return address - (1 << 64) if address >> 63 else address
