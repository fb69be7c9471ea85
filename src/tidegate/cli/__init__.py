"""The command line: finds the command, calls it, turns trouble into one line and an exit code.

Each command is a module of this package with SUMMARY, DESCRIPTION, EXAMPLES, EXIT_STATUS, `add_arguments`
and `run` (see `parser.Command`). Only the module of the command that was called is imported, by
`tidegate --help` none.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence

from tidegate.errors import Exit, TidegateError, Usage

# Name and one line of each command, in the order of the help. The line stands here so that `tidegate --help`
# need not import the modules; it is each module's SUMMARY too, and a test compares them.
COMMANDS = {
    "check": "what is here, what can deadlock and why, the numbers",
    "record": "snapshot this host so that check can run elsewhere",
    "plan": "the settings that prevent it: old, new, why, bounds",
    "explain": "what a finding, a setting, a verdict or a counter is, with sources",
    "simulate": "run the mechanism on a case: a machine, a storm, a design",
    "compare": "designs side by side on one case: word, price, smallest reserve",
    "trial": "try a case on unmodified kernels in QEMU: does the machine lock up?",
    "campaign": "a matrix of trials: cases, arms, kernels, NICs, transports",
    "report": "what trials found: counts with intervals, evidence, how to repeat",
    "kernels": "stock kernels that trials run on: list, fetch, clean",
    "rig": "what this machine can try, and what it lacks",
    "cases": "the cases: what each claims, expects, and what was found",
    "swarm": "the mechanism on machines, designs and storms drawn by chance",
    "schema": "print the JSON schema of an output",
    "completion": "print a completion script for a shell",
}

# The shells' own number for a program that was ended by SIGPIPE: whoever read the output went away.
READER_GONE = 141

_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code (see `errors.Exit`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        _open_streams()
    try:
        _accept_any_character()
        code = _dispatch(words)
    except TidegateError as error:
        return _say(str(error), error.exit)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        _drop_stdout()
        return READER_GONE
    except MemoryError:
        return _say("this machine has too little memory for it", Exit.LACKING)
    except Exception as error:  # noqa: BLE001 - the last resort: one line instead of a traceback
        return _unexpected(error, words)
    return _flush(code)


def _dispatch(words: list[str]) -> int:
    from tidegate.cli import parser  # argparse; nobody who only imports tidegate.cli pays for it

    command = next((word for word in words if not word.startswith("-")), None)
    place = words.index(command) if command is not None else len(words)
    try:
        args = parser.top_parser().parse_args(words[:place])
        if command is None:
            sys.stderr.write(parser.top_parser().format_help())
            return int(Exit.USAGE)
        if command not in COMMANDS:
            raise Usage(_unknown_command(command))
        module = parser.command_module(command)
        args = parser.command_parser(command, module).parse_args(words[place + 1 :], namespace=args)
    except SystemExit as done:  # argparse after --help and --version; its errors are Usage
        return _flush(int(done.code or 0))
    _set_up_messages(args.verbose - args.quiet)
    return int(module.run(args))


def _unknown_command(command: str) -> str:
    import difflib

    near = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else "tidegate --help lists the commands"
    return f"no command {command!r}; {hint}"


def _set_up_messages(level: int) -> None:
    """Messages go through `logging` to stderr: -q errors only, -v what is done, -vv everything."""
    import logging

    logger = logging.getLogger("tidegate")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("tidegate: %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    levels = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
    logger.setLevel(levels[min(max(level + 1, 0), 3)])


def _open_streams() -> None:
    """Makes stdout and stderr streams that can be written to, whatever the caller left of them.

    A closed one (`>&-`) swallows what it gets. With PYTHONUNBUFFERED, Python's stdout loses without a word what
    a first short write left over, as on a disk that runs full; a buffer writes on until all is out or it fails.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - stays open to the end
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        raw = io.FileIO(sys.stdout.fileno(), "w", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=sys.stdout.encoding, line_buffering=sys.stdout.isatty()
        )


def _accept_any_character() -> None:
    """A name read from the host may hold bytes that the terminal's encoding cannot show."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _say(message: str, code: Exit) -> int:
    """One line on stderr, whatever characters a file or a name brought into it."""
    try:
        sys.stderr.write(f"tidegate: {one_line(message)}\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody can be told
    return int(code)


def one_line(message: str) -> str:
    """A message with everything escaped that could end its line or steer a terminal."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in message)


def _unexpected(error: Exception, words: list[str]) -> int:
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE and error.filename is None:
        _drop_stdout()
        return _say(f"standard output: {error.strerror}", Exit.LACKING)
    if any(word.startswith("-v") or word == "--verbose" for word in words):
        import traceback

        traceback.print_exc(file=sys.stderr)
    return _say(
        f"internal error: {type(error).__name__}: {error}; this is a bug: please report the command "
        "and what it prints with -v (CONTRIBUTING.md says how)",
        Exit.BUG,
    )


def _flush(code: int) -> int:
    """Writes out what is buffered; a reader that went away by now changes nothing, a full disk does."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
    except OSError as error:
        _drop_stdout()
        return _say(f"standard output: {error.strerror}", Exit.LACKING)
    return code


def _drop_stdout() -> None:
    """Points stdout at nothing, so that the interpreter's own flush at exit stays quiet."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    except (OSError, ValueError):
        pass  # stdout is no file (a test's buffer)
