"""Two claims of the mail that a compiler can settle: "no extra object code", "should optimize to the same thing".

Each form is a small C file with stub types; both are compiled by gcc with the same options, and their code compared:
the instructions with their relocations, as objdump prints them, and the size of .text. The stubs follow 2.6.12:
alloc_skb() is an ordinary function, skb_reserve() an inline one, likely() is __builtin_expect().

The side-effecty expression of the first patch is not at hand: "the same thing" is tried on plausible forms of it.

Exit code 5 where gcc or objdump is missing, 2 where gcc refuses, 1 where a control does not come out as it must.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

STUBS = """\
#define unlikely(x) __builtin_expect(!!(x), 0)
#define likely(x) __builtin_expect(!!(x), 1)
#define GFP_ATOMIC 0x20u
#define __GFP_MEMALLOC 0x20000u
#define NULL ((void *)0)
struct sk_buff { unsigned len; unsigned char *head, *data, *tail, *end; };
extern struct sk_buff *alloc_skb(unsigned size, int gfp_mask);
static INLINE void skb_reserve(struct sk_buff *skb, unsigned len)
{
	skb->data += len;
	skb->tail += len;
}
"""

# __dev_alloc_skb() of 2.6.12.
BEFORE = """\
static INLINE struct sk_buff *__dev_alloc_skb(unsigned length, int gfp_mask)
{
	struct sk_buff *skb = alloc_skb(length + 16, gfp_mask);
	if (likely(skb))
		skb_reserve(skb, 16);
	return skb;
}
"""


def _allocate(expression: str) -> str:
    """__dev_alloc_skb() with the patch, its two tries written as `expression`."""
    return f"""\
static INLINE struct sk_buff *__dev_alloc_skb(unsigned length, int gfp_mask)
{{
	int opaque = 16, size = length + opaque;
	struct sk_buff *skb;
	{expression}
	return skb;
}}
"""


PLAIN = "gfp_mask & ~__GFP_MEMALLOC"
FLAG = "(gfp_mask & __GFP_MEMALLOC)"
RESERVE = "if (likely(skb))\n\t\tskb_reserve(skb, opaque);"

POSTED = _allocate(
    f"skb = alloc_skb(size, {PLAIN});\n"
    f"\tif (unlikely(!skb) && {FLAG})\n\t\tskb = alloc_skb(size, gfp_mask);\n\t{RESERVE}"
)
# What the first patch may have had.
SIDE_EFFECTS = {
    "if (!(skb = a) && flag) skb = b": _allocate(
        f"if (unlikely(!(skb = alloc_skb(size, {PLAIN}))) && {FLAG})\n\t\tskb = alloc_skb(size, gfp_mask);\n\t{RESERVE}"
    ),
    "if ((skb = a) || flag && (skb = b))": _allocate(
        f"if (likely((skb = alloc_skb(size, {PLAIN})) ||\n"
        f"\t    ({FLAG} && (skb = alloc_skb(size, gfp_mask)))))\n\t\tskb_reserve(skb, opaque);"
    ),
    "skb = a ?: flag ? b : NULL": _allocate(
        f"skb = alloc_skb(size, {PLAIN}) ?: {FLAG} ? alloc_skb(size, gfp_mask) : NULL;\n\t{RESERVE}"
    ),
}
REVERSED = _allocate(
    f"skb = alloc_skb(size, gfp_mask);\n"
    f"\tif (unlikely(!skb) && {FLAG})\n\t\tskb = alloc_skb(size, {PLAIN});\n\t{RESERVE}"
)

STACK = """\
static INLINE struct sk_buff *dev_alloc_skb(unsigned length)
{
	return __dev_alloc_skb(length, GFP_ATOMIC);
}
static INLINE struct sk_buff *dev_memalloc_skb(unsigned length)
{
	return __dev_alloc_skb(length, GFP_ATOMIC | __GFP_MEMALLOC);
}
"""


def _caller(call: str, name: str = "caller") -> str:
    return f"struct sk_buff *{name}(unsigned length, int gfp_mask)\n{{\n\treturn {call};\n}}\n"


def _three(call: str) -> str:
    return "".join(_caller(call, f"caller_{at}") for at in range(3))


DIRECT = _caller("__dev_alloc_skb(length, GFP_ATOMIC | __GFP_MEMALLOC)")
ASKS = _caller("dev_memalloc_skb(length)")
ASKS_NOT = _caller("dev_alloc_skb(length)")
ANY_MASK = _caller("__dev_alloc_skb(length, gfp_mask)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two forms, and how they must compare where they are a control: the same code, or not."""

    name: str
    left: str
    right: str
    same: bool | None = None


PAIRS = (
    Pair(
        name="the flag spelled out > dev_memalloc_skb()",
        left=POSTED + DIRECT,
        right=POSTED + STACK + ASKS,
    ),
    Pair(
        name="the same, three callers in a file",
        left=POSTED + _three("__dev_alloc_skb(length, GFP_ATOMIC | __GFP_MEMALLOC)"),
        right=POSTED + STACK + _three("dev_memalloc_skb(length)"),
    ),
    Pair(
        name="a caller that does not ask: 2.6.12 > the patch",
        left=BEFORE + STACK + ASKS_NOT,
        right=POSTED + STACK + ASKS_NOT,
    ),
    Pair(
        name="a caller that asks: 2.6.12 > the patch",
        left=BEFORE + STACK + ASKS_NOT,
        right=POSTED + STACK + ASKS,
    ),
    Pair(
        name="a caller with any mask: 2.6.12 > the patch",
        left=BEFORE + ANY_MASK,
        right=POSTED + ANY_MASK,
    ),
    *(
        Pair(name=f"{mask}: {form} > posted", left=source + caller, right=POSTED + caller)
        for (form, source), (mask, caller) in product(
            SIDE_EFFECTS.items(), (("known mask", DIRECT), ("any mask", ANY_MASK))
        )
    ),
    Pair(
        name="control: posted > posted, a variable renamed",
        left=POSTED + ANY_MASK,
        right=POSTED.replace("opaque", "headroom") + ANY_MASK,
        same=True,
    ),
    Pair(
        name="control: reserve first > posted", left=REVERSED + ANY_MASK, right=POSTED + ANY_MASK, same=False
    ),
)

LEVELS = ("-O2", "-Os")
# For gcc from 3.1 on the kernels of 2005 make every `inline` always_inline (include/linux/compiler-gcc3.h and -gcc4.h
# of 2.6.12-rc2); later ones leave it to the compiler.
INLINES = {"always_inline": "inline __attribute__((always_inline))", "inline": "inline"}
OPTIONS = (
    "-std=gnu89 -ffreestanding -fno-strict-aliasing -fno-common -fno-asynchronous-unwind-tables -fomit-frame-pointer "
    "-fno-pic -Wall -Werror"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What a form became: bytes of .text, and its instructions."""

    text_bytes: int
    instructions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One pair under one set of options."""

    pair: Pair
    left: Code
    right: Code

    @property
    def same(self) -> bool:
        """Whether the instructions are the same, one by one."""
        return self.left.instructions == self.right.instructions

    @property
    def word(self) -> str:
        """What the table says: `same`, or the bytes that the right form has more, +0 where only the code differs."""
        return "same" if self.same else f"{self.right.text_bytes - self.left.text_bytes:+d}"

    @property
    def as_it_must(self) -> bool:
        """False for a control that failed."""
        return self.pair.same is None or self.pair.same is self.same


def compile_form(source: str, options: list[str], inline: str, *, gcc: str, objdump: str) -> Code:
    """The code that gcc makes of a form. Raises CalledProcessError where it does not compile."""
    with tempfile.TemporaryDirectory() as folder:
        file, made = Path(folder, "form.c"), Path(folder, "form.o")
        file.write_text(STUBS + source)
        define = f"-DINLINE={INLINES[inline]}"
        _run([gcc, *OPTIONS, *options, define, "-c", str(file), "-o", str(made)])
        listing = _run([objdump, "-dr", "--no-show-raw-insn", str(made)])
        sections = _run([objdump, "-h", str(made)])
    sizes = re.findall(r"^\s*\d+ \.text\S*\s+([0-9a-f]+)", sections, re.MULTILINE)  # .text.unlikely too
    # What a jump inside the file is called does not matter, where it goes does; relocations keep their names.
    lines = [
        re.sub(r" <.*>", "", line.strip())
        for line in listing.splitlines()
        if re.match(r"\s+[0-9a-f]+:", line)
    ]
    return Code(text_bytes=sum(int(size, 16) for size in sizes), instructions=tuple(lines))


def compare(pair: Pair, options: list[str], inline: str, *, gcc: str, objdump: str) -> Outcome:
    """Both forms of a pair under the same options."""
    left, right = (
        compile_form(form, options, inline, gcc=gcc, objdump=objdump) for form in (pair.left, pair.right)
    )
    return Outcome(pair=pair, left=left, right=right)


def table(outcomes: dict[tuple[str, str], list[Outcome]]) -> str:
    """A line a pair, a column each set of options: what the right form has more than the left."""
    heads = [f"{level} {inline}" for level, inline in outcomes]
    rows = [("", *heads)]
    for at, pair in enumerate(PAIRS):
        rows.append((pair.name, *(column[at].word for column in outcomes.values())))
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads) + 1)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _run(words: list[str]) -> str:
    env = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=env)  # noqa: S603
    return done.stdout


def main(words: list[str]) -> int:
    """Prints the table; the words are further options of gcc, such as -m32."""
    gcc, objdump = shutil.which("gcc"), shutil.which("objdump")
    if gcc is None or objdump is None:
        print(f"compare_object_code: no {'gcc' if gcc is None else 'objdump'} here", file=sys.stderr)
        return 5
    try:
        outcomes = {
            (level, inline): [
                compare(pair, [level, *words], inline, gcc=gcc, objdump=objdump) for pair in PAIRS
            ]
            for level, inline in product(LEVELS, INLINES)
        }
    except subprocess.CalledProcessError as error:
        print(f"compare_object_code: {error.stderr.strip().splitlines()[0]}", file=sys.stderr)
        return 2
    gcc_version, machine = (_run([gcc, word]).strip() for word in ("-dumpfullversion", "-dumpmachine"))
    print(f"{' '.join(['gcc', gcc_version, *words])} for {machine}")
    print("LEFT > RIGHT: same code, or how many bytes RIGHT has more\n")
    print(table(outcomes))
    failed = sorted({one.pair.name for column in outcomes.values() for one in column if not one.as_it_must})
    for name in failed:
        print(f"{name}: did not come out as it must", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
