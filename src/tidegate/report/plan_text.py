"""A plan as text: the verdict it leads to, old and new by law, the two conditions, what it cannot do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tidegate.report.screen import VERDICT_LOOK, Screen, fill, paint, screen_of, section, table
from tidegate.report.words import (
    CONDITION_HOLDS,
    NOT_KNOWN,
    UNBOUNDED,
    accepted_words,
    memory_words,
    printable,
    sentence,
    source_words,
)
from tidegate.result import Condition, Law, Plan, Setting, Verdict

# In the order that matters: a larger reserve comes after what makes the need smaller.
LAW_HEADS = {
    Law.THROTTLE: "Throttle: no request is admitted before its worst withdrawal is accounted for",
    Law.DISCARD: "Discard: others cannot hold those pages, or the last ordinary ones, without bound",
    Law.RESERVE: "Reserve: what block IO may withdraw is there, and only block IO can take it",
}
# Of the published numbers those that people meet; the rest with `all`.
USUAL_ADVICE = frozenset(
    {"kernel default", "ten times the default", "0.4 % of RAM per node", "512 MiB, or 1.83 GiB"}
)
CONDITION_NAMES = {"settings_alone": "settings alone", "with_drop": "with an early drop"}


def plan_text(plan: Plan, *, all: bool = False, width: int = 80, colour: bool = False) -> str:
    """One plan as text that ends with a newline; `all` gives every setting its bounds, basis and undo."""
    screen = screen_of(width=width, colour=colour, all=all)
    sections = (
        _head(plan, screen),
        *(_law(law, plan.settings, screen) for law in LAW_HEADS),
        _conditions(plan, screen),
        _listed("SAFE then rests on", plan.assumes if plan.settings else (), screen),
        _listed("What would have to change", plan.change, screen),
        _listed("What no setting here cures", plan.remains, screen),
        _listed("Accepted, and counted all the same", map(accepted_words, plan.accepted), screen),
        _rules_of_thumb(plan, screen),
        _more(plan, screen),
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def capital(text: str) -> str:
    """A text that begins as a sentence does."""
    return text[:1].upper() + text[1:]


def headline(plan: Plan) -> str:
    """The plan in one sentence."""
    number = len(plan.settings)
    after = f"{plan.before.value} now, {plan.after.value} after"
    if not number:
        return f"Nothing to set: this host is {plan.after.value}" + (
            "" if plan.fits is not False else ", and no setting within the share makes the sum fit"
        )
    head = f"{number} setting{'' if number == 1 else 's'}: {after}"
    if plan.fits is False:
        return f"{head}; the sum does not fit within {plan.max_share_percent:g} % of RAM"
    if plan.fits is None:
        return f"{head}; whether the sum fits cannot be told"
    if plan.rests_on == "with_drop" and plan.after is not Verdict.SAFE:
        return f"{head}; it holds only together with an early drop at ingress"
    return head


def _head(plan: Plan, screen: Screen) -> list[str]:
    host = plan.host
    about = (
        f"{printable(host.name)}: Linux {host.kernel}, {memory_words(host.memory_kib)}, {source_words(host)}"
    )
    return [
        *(paint(one, VERDICT_LOOK[plan.after], screen) for one in fill(headline(plan), screen, hang=2)),
        *(paint(one, "quiet", screen) for one in fill(about, screen, hang=2)),
        *fill(f"Then: {sentence(plan.reason)}", screen, hang=2),
    ]


def _law(law: Law, settings: Sequence[Setting], screen: Screen) -> list[str]:
    mine = [one for one in settings if one.law is law]
    if not mine:
        return []
    return section(LAW_HEADS[law], (text for one in mine for text in _setting(one, screen)), screen)


def _setting(one: Setting, screen: Screen) -> Iterator[str]:
    old = NOT_KNOWN if one.old is None else one.old
    yield from fill(printable(f"{one.id}: {old} -> {one.new}"), screen, 2, 2)
    yield from fill(capital(sentence(one.why)), screen, 4)
    facts = [("first", one.first), ("in steps", ", ".join(one.steps))]
    if screen.all:
        facts += [
            ("where", one.path),
            ("at least", one.lower),
            ("at most", one.upper),
            ("dominated by", one.dominant),
            ("cures", ", ".join(one.cures)),
            ("basis", one.basis.value),
            ("undo", one.undo),
        ]
    for word, text in facts:
        if text:
            yield from fill(printable(f"{word}: {text}"), screen, 4, 2)


def _conditions(plan: Plan, screen: Screen) -> list[str]:
    if not plan.conditions_after:
        return []
    before = {one.id: one for one in plan.conditions_before}
    lines = []
    for one in plan.conditions_after:
        name = CONDITION_NAMES.get(one.id, one.id)
        was = before.get(one.id)
        now = "" if was is None else f" (now: {condition_words(was)})"
        text = f"{name}: {condition_words(one)}{now}: {one.text}"
        lines += fill(text, screen, 2, 2)
    share = "" if plan.share_percent is None else (
        f"vm.min_free_kbytes is then {plan.share_percent:g} % of RAM, of {plan.max_share_percent:g} % allowed"
    )  # fmt: skip
    if plan.dominant:
        share += f"; the largest holder is {plan.dominant}" if share else f"Largest holder: {plan.dominant}"
    return section("The two conditions, in pages", [*lines, *fill(share, screen, 2, 2)], screen)


def condition_words(one: Condition) -> str:
    """Whether a condition holds, with both sides."""

    def pages(amount: int | None) -> str:
        return UNBOUNDED if amount is None else f"{amount:,}"

    return f"{CONDITION_HOLDS[one.holds]}, {pages(one.left_pages)} against {pages(one.right_pages)}"


def _listed(head: str, items: Iterable[str], screen: Screen) -> list[str]:
    lines = [text for one in items for text in fill(f"- {printable(one)}", screen, 2, 2)]
    return section(head, lines, screen) if lines else []


def _rules_of_thumb(plan: Plan, screen: Screen) -> list[str]:
    if not plan.conditions_after or not plan.rules_of_thumb:
        return []
    words = {True: "yes", False: "no", None: "-"}
    rows = [
        (
            one.name,
            "-" if one.min_free_kib is None else f"{one.min_free_kib:,}",
            words[one.holds_now],
            words[one.holds_planned],
        )
        for one in plan.rules_of_thumb
        if screen.all or one.name in USUAL_ADVICE
    ]
    lines = [f"  {text}" for text in table(("rule of thumb", "kB", "alone", "with this plan"), rows)]
    if screen.all:
        lines += [
            text for one in plan.rules_of_thumb for text in fill(f"{one.name}: {one.source}", screen, 2, 2)
        ]
    head = "Published numbers for vm.min_free_kbytes: would settings alone hold with them?"
    return section(head, lines, screen)


def _more(plan: Plan, screen: Screen) -> list[str]:
    if screen.all or (not plan.settings and plan.after is Verdict.SAFE):
        return []
    return fill(
        "As files: --as sysctl, script or tuned, each solved for what it can hold. More: --all", screen
    )
