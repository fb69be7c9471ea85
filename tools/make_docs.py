"""Writes the pages of docs/ that come from the code's own tables; with --check only says which are stale."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
MADE = "<!-- made by `make docs` from the code's own tables; edit those -->\n"


def commands_page() -> str:
    """Every command's help, as the program prints it on a terminal 96 columns wide."""
    from tidegate.cli import COMMANDS

    parts = [f"# Commands\n\n{MADE}\nThe same as `tidegate COMMAND --help`.\n"]
    for words in (["--help"], *([name, "--help"] for name in COMMANDS)):
        title = " ".join(["tidegate", *words[:-1]])
        parts.append(f"## {title}\n\n```text\n{_printed(words).rstrip()}\n```\n")
    return "\n".join(parts)


def exit_codes_page() -> str:
    """What each exit code means, and which one wins when a call has several results."""
    from tidegate.cli.parser import EXIT_STATUS
    from tidegate.errors import Exit, worst_exit

    rows = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_STATUS.items())
    order: list[Exit] = []
    while len(order) < len(Exit):
        order.append(worst_exit(set(Exit) - set(order)))
    wins = " > ".join(str(int(code)) for code in order)
    return f"""# Exit codes

{MADE}
The same for every command; `tidegate COMMAND --help` says what they mean there.

| code | means |
|---|---|
{rows}

Several results in one call: {wins}.

Trouble is one line on stderr that begins with `tidegate:`. Bad input names the file, the place in it, what
was found and what was expected. A traceback is shown only for an internal error, and only with `-v`.

The codes 1 and 3 are answers, not failures: a script that wants to know only whether the program worked tests
for 2, 5 and 6.
"""


def drivers_page() -> str:
    """The table of drivers."""
    from tidegate.report.docs_drivers import drivers_markdown

    return drivers_markdown()


def findings_page() -> str:
    """Every finding, and what its severity means."""
    from tidegate.report.docs_findings import findings_markdown

    return findings_markdown()


def designs_page() -> str:
    """The designs, switch by switch, beside the mail's hunks and mainline."""
    from tidegate.report.docs_designs import designs_markdown

    return designs_markdown()


def cases_page() -> str:
    """What may stand in a case."""
    from tidegate.bundled_cases import case_names, case_path, cases_directory
    from tidegate.case import read_case
    from tidegate.judge.listed import case_state
    from tidegate.judge.stored import read_results
    from tidegate.judge.stored_trials import read_trials
    from tidegate.report.docs_cases import cases_markdown

    results, tried = read_results(cases_directory()), read_trials(cases_directory())
    read = [read_case(case_path(name)) for name in case_names()]
    return cases_markdown(case_state(case, results, tried) for case in read)


def history_page() -> str:
    """The walk through the mail, as it is written, with the stored results of each case that it names."""
    from tidegate.bundled_cases import case_names, case_path, cases_directory
    from tidegate.case import read_case
    from tidegate.judge.listed import case_state
    from tidegate.judge.stored import read_results
    from tidegate.judge.stored_trials import read_trials
    from tidegate.report.docs_cases import with_results

    results = read_results(cases_directory())
    read = [read_case(case_path(name)) for name in case_names()]
    whys = {(case.name, arm.name): arm.why for case in read for arm in case.arm}
    tried = read_trials(cases_directory())
    states = {case.name: case_state(case, results, tried) for case in read}
    return with_results((DOCS / "history.md").read_text(), states, whys)


EXCERPT = ("<!-- excerpt: begin -->\n", "<!-- excerpt: end -->\n")
EXCERPT_HOST = "virtio-nbd-swap"


def readme() -> str:
    """README.md with what `make run` prints of its host: verdict, users, the way there, the head of the plan."""
    text = (DOCS.parent / "README.md").read_text()
    head, begin, rest = text.partition(EXCERPT[0])
    _, end, tail = rest.partition(EXCERPT[1])
    said = (DOCS.parent / "hosts" / f"{EXCERPT_HOST}.txt").read_text()
    blocks = said.rstrip("\n").split("\n\n")
    kept = [blocks[0]]
    kept += [one for one in blocks if one.startswith(("What rides", "The shortest way", "The plan"))]
    shown = "...\n".join(f"{one}\n" for one in kept)
    # Between two shown parts stand an empty line and whatever was left out; a line `...` stands for both.
    return with_story(
        f"{head}{begin}\n```console\n$ tidegate check --host {EXCERPT_HOST}\n{shown}...\n```\n\n{end}{tail}"
    )


STORY = ("<!-- story: begin -->\n", "<!-- story: end -->\n")


def with_story(text: str) -> str:
    """A page with how the machine of `deadlock` dies, and why it does not with the mail's design."""
    head, begin, rest = text.partition(STORY[0])
    _, end, tail = rest.partition(STORY[1])
    assert end, "no place for the story"
    shown = ""
    for arm in ("bare", "mail"):
        words = ["simulate", "deadlock", "--arm", arm, "--seed", "1"]
        blocks = _printed(words, columns=100).rstrip("\n").split("\n\n")
        kept = [blocks[0], *(one for one in blocks if one.startswith(("How the machine", "Why the machine")))]
        shown += f"$ tidegate {' '.join(words)}\n" + "".join(f"{one}\n...\n" for one in kept)
    return f"{head}{begin}\n```console\n{shown}```\n\n{end}{tail}"


def mechanism_page() -> str:
    """The page as it is written, with the story."""
    return with_story((DOCS / "mechanism.md").read_text())


def results_page() -> str:
    """What the kept trials showed: the prose as it is written, with the tables."""
    from tidegate.bundled_cases import cases_directory
    from tidegate.judge.stored_trials import read_trials
    from tidegate.report.docs_trials import with_trials
    from tidegate.rig.tally import tallies
    from tidegate.trial import Trials

    results = read_trials(cases_directory())
    return with_trials((DOCS / "results.md").read_text(), Trials(tallies=tallies(results), results=results))


PAGES: dict[str, Callable[[], str]] = {
    "../README.md": readme,
    "findings.md": findings_page,
    "cases.md": cases_page,
    "commands.md": commands_page,
    "designs.md": designs_page,
    "drivers.md": drivers_page,
    "exit-codes.md": exit_codes_page,
    "history.md": history_page,
    "mechanism.md": mechanism_page,
    "results.md": results_page,
}


def _printed(words: list[str], columns: int = 96) -> str:
    from tidegate.cli import main

    out = io.StringIO()
    os.environ["COLUMNS"] = str(columns)
    with contextlib.redirect_stdout(out):
        code = main(words)
    if code != 0:
        raise SystemExit(f"tidegate {' '.join(words)} ended with {code}")
    return out.getvalue()


def main(words: list[str]) -> int:
    """Writes the pages, or with --check compares them; 1 when one is stale."""
    stale = []
    for name, make in PAGES.items():
        page, text = DOCS / name, make()
        if page.is_file() and page.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in words:
            page.write_text(text)
            print(f"docs/{name} written")
    if stale and "--check" in words:
        print(f"stale: {', '.join(stale)}; make docs writes them anew")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
