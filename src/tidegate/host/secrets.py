"""What never enters a record: passwords, keys, kernel addresses, and of configuration files all but the lines wanted.

Files whose every attribute could be a secret (CHAP names and passwords of iSCSI sessions, DH-HMAC-CHAP keys of NVMe,
rbd's config_info, environments) are not on the list of what is read at all: see `wanted`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

HIDDEN = b"hidden"

# Mount options, and keys of the shared configuration syntax `name=value`.
_OPTION = re.compile(
    rb"(?i)\b((?:pass(?:wd|word|phrase)?2?|secret|cred(?:ential)?s?|(?:auth|access|secret|api)?_?-?(?:key|token)|psk"
    rb"|username_in|password_in)=)[^,\s\"')]+"
)
_IN_URL = re.compile(rb"(?<=//)([^/\s:@,]+):[^/\s@]+@")  # user:password@host
# dracut: netroot=iscsi:[user:password[:user:password]@]server:...
_IN_NETROOT = re.compile(rb"((?:net)?root=iscsi:)[^\s@]+@")
_MODULE_ADDRESS = re.compile(rb" 0x[0-9a-f]+(?=(?: \(\w+\))?$)", re.MULTILINE)
# Addresses in /proc/PID/stat (fs/proc/array.c: do_task_stat), counted from the field after the name, state being 0.
_STAT_ADDRESSES = (*range(23, 28), 32, *range(42, 49))
_SUSPECT = re.compile(r"(?i)secret|passw|token|credential|private")  # whole lines that are not kept
_COMMENT = re.compile(rb"(?m)^[ \t]*#.*\n?")


def without_secrets(path: str, data: bytes) -> bytes:
    """A file as a record may hold it."""
    for pattern, clean in _BY_PATH:
        if pattern.fullmatch(path):
            data = clean(data)
    return data


def _options(data: bytes) -> bytes:
    return _IN_URL.sub(rb"\1:" + HIDDEN + b"@", _OPTION.sub(rb"\1" + HIDDEN, data))


def _without_comments(data: bytes) -> bytes:
    return _COMMENT.sub(b"", data)


def _modules(data: bytes) -> bytes:
    """Where modules are loaded is shown to root, and defeats the randomisation of the kernel's addresses."""
    return _MODULE_ADDRESS.sub(b" 0x0", data)


def _stat(data: bytes) -> bytes:
    head, bracket, tail = data.rpartition(b") ")
    words = tail.split()
    for place in _STAT_ADDRESSES:
        if place < len(words):
            words[place] = b"0"
    return head + bracket + b" ".join(words) + b"\n" if bracket else data


def _net_root(data: bytes) -> bytes:
    return _IN_NETROOT.sub(rb"\1" + HIDDEN + b"@", data)


_BY_PATH: tuple[tuple[re.Pattern[str], Callable[[bytes], bytes]], ...] = (
    (re.compile(r"proc/modules"), _modules),
    (re.compile(r"proc/\d+/(task/\d+/)?stat"), _stat),
    (re.compile(r"proc/cmdline"), _net_root),
    (re.compile(r"proc/([^/]+/)?(mounts|mountinfo|mountstats)"), _options),
    (re.compile(r"(etc|run/systemd)/.*|proc/\d+/cmdline|proc/cmdline"), _options),
    (re.compile(r"etc/(fstab|nbdtab|exports)"), _without_comments),
    (re.compile(r"sys/block/[^/]+/(loop/backing_file|backing_dev)"), _options),
)


def lines_of(text: str, keys: Iterable[str]) -> str:
    """The lines of a configuration file that begin with one of the keys, or for JSON the members so called.

    Spaces, quotation marks and list dashes before a key do not count; the indentation of what is kept stays.
    """
    keys = tuple(keys)
    if text.lstrip().startswith("{"):
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        kept = {name: value for name, value in whole.items() if name.startswith(keys)}
        return json.dumps(kept, indent=1) + "\n"
    lines = (line for line in text.splitlines() if line.lstrip(" \t-\"'").startswith(keys))
    return "".join(line + "\n" for line in lines if not _SUSPECT.search(line))


# Options that a record keeps of programs in the path, with the value that follows.
_FLAGS: dict[str, tuple[str, ...]] = {
    "nbd-client": (
        "-swap", "-s", "-persist", "-p", "-timeout", "-t", "-connections", "-C", "-block-size", "-b", "-n", "-nofork",
        "-nonetlink", "-L", "-sdp", "-S", "-systemd-mark", "-m", "-preinit", "-P", "-R", "-readonly",
    ),
    "nbdkit": ("--swap", "-p", "--port", "-i", "--ipaddr", "-t", "--threads", "-r", "--readonly", "-f", "--foreground"),
    "qemu-nbd": (
        "-c", "--connect", "-p", "--port", "-b", "--bind", "-e", "--shared", "-t", "--persistent", "-r", "--read-only",
        "--cache", "--aio", "--fork",
    ),
    "kubelet": (
        "--eviction-hard", "--eviction-soft", "--fail-swap-on", "--system-reserved", "--kube-reserved", "--config",
    ),
}  # fmt: skip
_PLAIN_WORD = re.compile(r"[\w.:%\[\]-]+|/dev/[\w!/.-]+")
_VALUE = re.compile(r"[\w.,:%<>=\[\]{}/-]+")
_POSITIONAL = frozenset({"nbd-client"})  # host, port and device stand without an option


def command_words(name: str, command: bytes) -> bytes:
    """Of a program's arguments only its name and the options known here, ended by NUL as in /proc/PID/cmdline.

    Empty for a program that is not known. An export's name, a file, a key and whatever else there is stay out.
    """
    flags = _FLAGS.get(name)
    words = [word.decode("utf-8", "replace") for word in command.split(b"\0") if word]
    if flags is None or not words:
        return b""
    kept, rest = [words[0].rsplit("/", 1)[-1]], words[1:]
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        bare = "-" + option.lstrip("-") if name == "nbd-client" and option.startswith("--") else option
        if word.startswith("-"):
            known = bare in flags
            if not equals and rest and not rest[0].startswith("-") and not _stands_alone(name, bare):
                value = rest.pop(0)
            if known:
                kept.append(option)
                if value:
                    kept.append(value if _VALUE.fullmatch(value) else HIDDEN.decode())
        elif name in _POSITIONAL and _PLAIN_WORD.fullmatch(word):
            kept.append(word)
    return b"".join(word.encode() + b"\0" for word in kept)


# Options without a value; after any other one the next word is its value.
_ALONE = frozenset(
    {
        "-swap", "-s", "-persist", "-p", "-nofork", "-n", "-nonetlink", "-L", "-sdp", "-S", "-systemd-mark", "-m",
        "-preinit", "-P", "-R", "-readonly", "-d", "-disconnect", "-enable-tls", "-x", "-no-optgo", "-g", "-u", "-unix",
    }
)  # fmt: skip
_ALONE_ELSEWHERE = frozenset({"--swap", "-r", "--readonly", "--read-only", "-f", "--foreground", "--fork"})


def _stands_alone(name: str, option: str) -> bool:
    return option in (_ALONE if name == "nbd-client" else _ALONE_ELSEWHERE)
