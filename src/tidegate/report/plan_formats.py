"""A plan as a file that something else puts in force: sysctl.d, a tuned profile, a shell script.

Every file says in comments what it is for, why each value, and what it cannot hold. Comments are the only
place where text of a host lands, and no line break of a name gets through to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap

from tidegate.report.plan_script import script_text
from tidegate.report.plan_text import CONDITION_NAMES, capital, condition_words, headline
from tidegate.report.words import printable, sentence
from tidegate.result import Plan, Setting

_WIDTH = 98


def plan_file(plan: Plan) -> str:
    """The plan in the format that it was solved for."""
    return {"sysctl": sysctl_text, "tuned": tuned_text, "script": script_of}[plan.format](plan)


def comment(text: str, *, hang: str = "") -> list[str]:
    """Lines of comment, whatever signs a name of the host brought into the text."""
    return [
        f"# {line}".rstrip()
        for line in wrap(
            printable(text), _WIDTH, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False
        )
    ] or ["#"]


def head(plan: Plan, use: str) -> list[str]:
    """What the file is, for which host, what it rests on and how it is used."""
    host = plan.host
    lines = [
        *comment(f"tidegate plan for {host.name}, Linux {host.kernel}, read {host.taken}."),
        *comment(f"{headline(plan)}. {sentence(plan.reason)}"),
    ]
    for one in plan.conditions_after:
        lines += comment(f"{CONDITION_NAMES.get(one.id, one.id)}: {condition_words(one)}", hang="  ")
    return [*lines, "#", *comment(use)]


def tail(plan: Plan) -> list[str]:
    """What the file cannot hold, and what no setting cures."""
    lines: list[str] = []
    for title, items in (
        ("What this file cannot hold:", plan.cannot_hold),
        ("What would have to change for the sum to fit:", plan.change),
        ("What no setting here cures:", plan.remains),
    ):
        if items:
            lines += ["#", *comment(title)]
            for item in items:
                lines += comment(f"- {item}", hang="  ")
    return lines


def reason(one: Setting) -> list[str]:
    """Why a value, its bounds and what must be true before it is written."""
    lines = [
        *comment(capital(sentence(one.why))),
        *comment(f"Was {one.old}. At least {one.lower}. At most {one.upper}."),
    ]
    if one.first:
        lines += comment(f"First: {one.first}.")
    if one.steps:
        lines += comment(f"In steps: {', '.join(one.steps)}.")
    return lines


def _values(settings: Iterable[Setting], separator: str) -> Iterator[str]:
    for one in settings:
        yield ""
        yield from reason(one)
        key = one.id if one.path.startswith("/proc/sys/") else one.path
        yield f"{key}{separator}{one.new}"


def sysctl_text(plan: Plan) -> str:
    """A file for /etc/sysctl.d."""
    use = (
        "Put it into /etc/sysctl.d, where it is read at boot; sysctl -p FILE loads it now. "
        "vm.min_free_kbytes is a floor, not a stock: load it while memory is free, before the swap or "
        "disk is connected."
    )
    return "\n".join([*head(plan, use), *_values(plan.settings, " = "), *tail(plan)]) + "\n"


def tuned_text(plan: Plan) -> str:
    """A tuned profile (tuned.conf)."""
    use = (
        "Save it as tuned.conf in /etc/tuned/profiles/tidegate (before tuned 2.23: /etc/tuned/tidegate),"
        " then tuned-adm profile tidegate. To keep the profile that is active, add include=ITS-NAME "
        "below [main]."
    )
    sysctls = [one for one in plan.settings if one.path.startswith("/proc/sys/")]
    files = [one for one in plan.settings if one.path.startswith("/sys/")]
    lines = [
        *head(plan, use),
        "",
        "[main]",
        "summary=Network block IO that survives memory pressure (tidegate)",
    ]
    if sysctls:
        lines += ["", "[sysctl]", *list(_values(sysctls, "="))[1:]]
    if files:
        lines += ["", "[sysfs]", *list(_values(files, "="))[1:]]
    return "\n".join([*lines, *tail(plan)]) + "\n"


def script_of(plan: Plan) -> str:
    """A shell script with its undo."""
    use = (
        "sh FILE applies, sh FILE undo takes back, sh FILE show prints what is and what should be. "
        "Nothing is written before everything was looked at; when a write fails, all is taken back. A "
        "reboot undoes it too."
    )
    return script_text(plan.settings, [*head(plan, use), *tail(plan)], reason, plan.host.page_bytes)
