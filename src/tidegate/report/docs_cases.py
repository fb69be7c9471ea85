"""docs/cases.md from the types of case.py and their comments, and the tables of results in docs/history.md."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec

from tidegate import case as cases
from tidegate import case_trial
from tidegate.case import WORDS
from tidegate.report.cases_trials import place_words, standing, trial_words
from tidegate.simulation import CaseArm, CaseState

TABLES: dict[str, type[msgspec.Struct]] = {
    "(top)": cases.Case,
    "machine": cases.Machine,
    "nic": cases.Nic,
    "user": cases.User,
    "traffic": cases.Traffic,
    "hook": cases.Hook,
    "load": cases.Load,
    "faults": cases.Faults,
    "run": cases.Storm,
    "arm": cases.Arm,
    "trial": case_trial.Trial,
    "trial.traffic": case_trial.TrialTraffic,
    "trial.arm": case_trial.TrialArm,
}
LISTS = {"user", "traffic", "hook", "arm", "trial.traffic", "trial.arm"}
CHOICES = (
    cases.Driver, cases.Delivery, cases.Access, cases.Protocol, cases.HookKind, cases.Buddy, case_trial.TrialStorm,
)  # fmt: skip
_CHOICE = re.compile(r'^    [A-Z_0-9]+ = "(\w+)"(?:  # (.+))?$', re.MULTILINE)
# A mark and, where it was filled before, what stands up to its end; never across another mark.
_MARK = re.compile(r"<!-- case: ([\w-]+) -->\n(?:(?:(?!<!-- case: ).)*?<!-- end of case -->\n)?", re.DOTALL)

MADE = "<!-- made by `make docs` from the code's own tables; edit those -->\n"
HEAD = f"""# Cases

{MADE}
A case is a TOML file: one claim, the machine and the storm that it is tried on, and arms. An arm is a design on that
machine, with switches left out or numbers changed, and the word that each judge is expected to say. The cases that
come with tidegate are in `cases/`; their results lie beside them, and `tidegate cases` prints both. What is not
written has its default. A key that is not in these tables is an error, and so is a machine that cannot be.

`tidegate simulate CASE` runs the first arm, `--arm NAME` another one, `--design NAME` a design on the case as it
stands. `[[user]]`, `[[traffic]]`, `[[hook]]` and `[[arm]]` may stand several times. An arm sets numbers as
`set.machine.reserve_pages = 40`; in a part that is a list every member gets them.
"""


KERNELS = """\
What unmodified kernels did, from the stored results (`cases/results/trial.jsonl`); `tidegate trial CASE` tries it here.
k/n: trials with that word of those that count. Margin: the least free pages, above where an ordinary atomic allocation
ends, that the best zone had at its worst. `check` is the word of `tidegate check` for a record of that guest.
`tidegate cases --judge trial` says which of them are stale.
"""


def cases_markdown(states: Iterable[CaseState] = ()) -> str:
    """The whole page; `states` may bring what real kernels did."""
    parts = [HEAD]
    for name, table in TABLES.items():
        title = (
            "What stands at the top"
            if name == "(top)"
            else f"`[[{name}]]`"
            if name in LISTS
            else f"`[{name}]`"
        )
        parts.append(f"## {title}\n\n{inspect.getdoc(table)}\n\n{_table(fields(table))}")
    for choice in CHOICES:
        rows = _CHOICE.findall(inspect.getsource(choice))
        listed = "\n".join(f"- `{word}`: {meaning}" if meaning else f"- `{word}`" for word, meaning in rows)
        parts.append(f"## {choice.__name__}\n\n{inspect.getdoc(choice)}\n\n{listed}\n")
    words = "\n".join(f"- `{judge}`: {', '.join(said)}" for judge, said in WORDS.items())
    parts.append(f"## Words\n\nWhat `expect` may name, by judge.\n\n{words}\n")
    tried = [_tried(state, link=True) for state in states if _was_tried(state)]
    if tried:
        parts.append("\n".join([f"## On real kernels\n\n{KERNELS}", *tried]))
    return "\n".join(parts)


def fields(table: type[msgspec.Struct]) -> list[tuple[str, str, str]]:
    """Key, default and meaning of each field; the meaning is the comment behind it in the source."""
    source = inspect.getsource(table)
    rows = []
    for field in msgspec.structs.fields(table):
        comment = re.search(rf"^    {field.name}: .*?  # (.+)$", source, re.MULTILINE)
        if (table, field.name) != (cases.Case, "name"):
            rows.append((field.encode_name, _default(field), comment[1] if comment else ""))
    return rows


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    lines = ["| key | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {default} | {_cell(meaning)} |" for name, default, meaning in rows]
    return "\n".join(lines) + "\n"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "must be there"
    value = field.default if field.default is not msgspec.NODEFAULT else None
    if isinstance(value, msgspec.Struct) or (isinstance(value, tuple) and value):
        return "as below"
    if value in (None, "", ()):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def with_results(text: str, states: Mapping[str, CaseState], whys: Mapping[tuple[str, str], str]) -> str:
    """A page with a table of results below each line `<!-- case: NAME -->`."""

    def filled(match: re.Match[str]) -> str:
        state = states[match[1]]
        rows = [_row(arm, whys.get((state.name, arm.name), "")) for arm in state.arms]
        table = "\n".join(["| arm | expected | found | why |", "|---|---|---|---|", *rows])
        link = f"[`cases/{state.name}.toml`](../cases/{state.name}.toml): {state.claim}"
        tried = f"{_tried(state, link=False)}\n" if _was_tried(state) else ""
        return f"<!-- case: {state.name} -->\n{link}\n\n{table}\n\n{tried}<!-- end of case -->\n"

    return _MARK.sub(filled, text)


def _row(arm: CaseArm, why: str) -> str:
    word = arm.found.get("simulate")
    found = f"{word} {arm.k} of {arm.n}" if word else "not run"
    return f"| {_cell(arm.name)} | {arm.expected.get('simulate', '')} | {found} | {_cell(why)} |"


def _was_tried(state: CaseState) -> bool:
    return any(one.counts and not one.sweep for one in state.trials)


def _tried(state: CaseState, *, link: bool) -> str:
    """A table of the trials of a case, where there are any."""
    head = f"[`{state.name}`](../cases/{state.name}.toml)" if link else "On real kernels"
    lines = [f"{head}:\n", "| arm | expected | trial | margin | check | |", "|---|---|---|---|---|---|"]
    for one in state.trials:
        if one.counts and not one.sweep:
            cells = (
                place_words(state, one),
                one.expected or "",
                trial_words(one),
                "" if one.margin_pages is None else f"{one.margin_pages:,}",
                one.check or "",
                standing(replace(one, stale=False)),  # it would change this page with every line of the rig
            )
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
