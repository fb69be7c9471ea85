"""A plan as a script for any POSIX shell (busybox sh, dash): apply, undo, show.

Nothing is written before everything was looked at. Each write is noted before it happens and read back after;
when one fails, all is taken back in reverse order. The notes lie in /run, since a reboot undoes the settings
as well. TIDEGATE_ROOT puts another tree in the place of / (for tests).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from shlex import quote

from tidegate.result import Setting

_FUNCTIONS = r"""
set -u
LC_ALL=C; export LC_ALL
ROOT=${TIDEGATE_ROOT:-}
NOTES=${TIDEGATE_NOTES:-$ROOT/run/tidegate-plan.notes}
WAIT=${TIDEGATE_WAIT:-60} # seconds to wait for free pages, for each step
TAB=$(printf '\t')
IP=ip bad=0 changed=0 force=0

say() { printf 'tidegate: %s\n' "$*" >&2; }
refuse() { say "$*"; bad=1; }

# The words of a file with single spaces between.
value() (
    set -f
    text=$(cat "$1" 2>/dev/null) || exit 1
    # shellcheck disable=SC2086
    set -- $text
    printf '%s' "$*"
)

# iproute2's ip: busybox has an ip as well, which cannot write neighbour entries.
find_ip() {
    for IP in "${TIDEGATE_IP:-}" /usr/sbin/ip /sbin/ip /usr/bin/ip /bin/ip; do
        if [ -x "$IP" ]; then
            case $("$IP" -V 2>/dev/null) in
            *iproute2*) return 0 ;;
            esac
        fi
    done
    IP=ip
    return 1
}

# A neighbour entry as "hardware-address state", or "none".
entry() (
    set -f
    # shellcheck disable=SC2046
    set -- $("$IP" neigh show to "$1" dev "$2" 2>/dev/null)
    address=none state=none
    while [ $# -gt 0 ]; do
        if [ "$1" = lladdr ] && [ $# -gt 1 ]; then address=$2; fi
        state=$1
        shift
    done
    if [ "$address" = none ]; then printf none; else printf '%s %s' "$address" "$state"; fi
)

# look_file FILE OLD NEW: may it be written, and is it as it was when the plan was made?
look_file() {
    if [ ! -e "$ROOT$1" ]; then refuse "$1 is not there"; return; fi
    now=$(value "$ROOT$1") || { refuse "$1 cannot be read"; return; }
    if [ "$now" = "$3" ]; then return; fi
    changed=1
    if [ ! -w "$ROOT$1" ]; then refuse "$1 cannot be written: not root?"; return; fi
    if [ "$now" != "$2" ]; then refuse "$1 is $now, and the plan was made for $2: make a new plan"; fi
}

look_raise() { look_file "$@"; }

look_neighbour() {
    if ! find_ip; then refuse "no ip of iproute2 is installed"; return; fi
    case $(entry "$1" "$2") in
    *" PERMANENT") ;;
    none) changed=1; refuse "$1 has no entry on $2 yet: send it a packet first" ;;
    *) changed=1 ;;
    esac
}

note() { printf '%s\t%s\t%s\t%s\n' "$@" >>"$NOTES"; }

# put FILE NEW: notes the old value, writes, and reads back.
put() {
    now=$(value "$ROOT$1") || fail "$1 cannot be read"
    if [ "$now" = "$2" ]; then return; fi
    note file "$1" "$now" "$2" || fail "$NOTES cannot be written"
    { printf '%s\n' "$2" >"$ROOT$1"; } 2>/dev/null || fail "$1 refused $2"
    now=$(value "$ROOT$1")
    if [ "$now" != "$2" ]; then fail "$1 became $now instead of $2"; fi
    say "$1 = $2"
}

write_file() { put "$1" "$3"; }

# Free pages of all zones, and the sum of their high watermarks.
pages() {
    free=0 high=0
    while read -r first second third _; do
        case "$first $second" in
        "pages free") free=$((free + third)) ;;
        "high "[0-9]*) high=$((high + second)) ;;
        esac
    done <"$ROOT/proc/zoneinfo"
}

# enough FROM TO: are the pages free that this raise puts under the high watermarks? They are 3/2 of min.
enough() {
    pages
    wanted=$((high + ($2 - $1) * 3 / 2 / PAGE_KIB + 1))
    [ "$free" -ge "$wanted" ]
}

# A floor is not a stock: raised above what is free, it stops everybody who may not go below it.
write_raise() {
    at=$(value "$ROOT$1") || fail "$1 cannot be read"
    while [ "$at" -lt "$3" ]; do
        step=$3
        if ! enough "$at" "$step"; then
            add=$((at / 4)) least=$(($3 / 8 + 1))
            if [ "$add" -lt "$least" ]; then add=$least; fi
            if [ $((at + add)) -lt "$step" ]; then step=$((at + add)); fi
        fi
        left=$WAIT
        until enough "$at" "$step"; do
            if [ "$left" -le 0 ]; then fail "$wanted pages must be free for $1 = $step, $free are"; fi
            left=$((left - 1))
            sleep 1
        done
        put "$1" "$step"
        at=$step
    done
}

write_neighbour() {
    old=$(entry "$1" "$2")
    case $old in
    *" PERMANENT") return ;;
    none) fail "$1 has no entry on $2" ;;
    esac
    note neighbour "$1 $2" "$old" PERMANENT || fail "$NOTES cannot be written"
    "$IP" neigh replace "$1" lladdr "${old%% *}" dev "$2" nud permanent || fail "ip neigh refused $1"
    say "$1 on $2 = PERMANENT"
}

show_file() { printf '%s: %s (plan: %s)\n' "$1" "$(value "$ROOT$1" || printf 'cannot be read')" "$3"; }
show_raise() { show_file "$@"; }
show_neighbour() { find_ip || :; printf '%s on %s: %s (plan: PERMANENT)\n' "$1" "$2" "$(entry "$1" "$2")"; }

# restore KIND WHERE OLD NEW: only what still is as this script left it, unless this run itself failed.
restore() {
    if [ "$1" = neighbour ]; then
        find_ip || { refuse "no ip of iproute2 is installed"; return; }
        now=$(entry "${2%% *}" "${2##* }")
        case $now in
        *" PERMANENT") ;;
        *) return ;;
        esac
        "$IP" neigh replace "${2%% *}" lladdr "${3%% *}" dev "${2##* }" nud reachable ||
            refuse "ip neigh refused ${2%% *}"
        return
    fi
    now=$(value "$ROOT$2") || { refuse "$2 cannot be read"; return; }
    if [ "$now" = "$3" ]; then return; fi
    if [ "$now" != "$4" ] && [ "$force" = 0 ]; then
        refuse "$2 is $now, which this script did not write: left as it is"
        return
    fi
    { printf '%s\n' "$3" >"$ROOT$2"; } 2>/dev/null || { refuse "$2 refused $3"; return; }
    say "$2 = $3"
}

# The notes from the last to the first.
back() {
    IFS=$TAB read -r kind where old new || return 0
    set -- "$kind" "$where" "$old" "$new"
    back
    restore "$@"
}

undo() {
    if [ ! -e "$NOTES" ]; then say "nothing to undo: $NOTES is not there"; return; fi
    back <"$NOTES"
    if [ "$bad" = 0 ]; then rm -f "$NOTES"; else mv -f "$NOTES" "$NOTES.left"; fi
}

# fail WHY: takes back everything that this run wrote.
fail() {
    trap - HUP INT TERM
    say "$*"
    say "taking everything back"
    force=1 bad=0
    undo
    if [ "$bad" = 0 ]; then
        say "nothing was changed"
    else
        say "not everything could be taken back: see $NOTES.left"
    fi
    exit 1
}

apply() {
    each look
    if [ "$bad" != 0 ]; then say "nothing was changed"; exit 1; fi
    if [ "$changed" = 0 ]; then say "already in force"; return; fi
    if [ -e "$NOTES" ]; then
        say "$NOTES is there from an earlier run: undo that first; nothing was changed"
        exit 1
    fi
    { printf '' >"$NOTES"; } 2>/dev/null || { say "$NOTES cannot be written; nothing was changed"; exit 1; }
    trap 'fail interrupted' HUP INT TERM
    each write
    trap - HUP INT TERM
    say "all in force; sh $0 undo takes it back"
}
"""

_MAIN = r"""
case ${1:-apply} in
apply) apply ;;
undo) undo ;;
show) each show ;;
*)
    say "usage: sh $0 [apply|undo|show]"
    exit 2
    ;;
esac
exit "$bad"
"""


def script_text(
    settings: Sequence[Setting],
    comments: Sequence[str],
    reason: Callable[[Setting], list[str]],
    page_bytes: int = 4096,
) -> str:
    """The whole script; `comments` stand at its top, `reason` gives those of one setting."""
    lines = ["#!/bin/sh", *comments, ""]
    lines += ["# Every setting of the plan, in its order: $1 is look, write or show.", "each() {"]
    for one in settings:
        lines += [f"    {text}" for text in reason(one)]
        lines += [f"    {_call(one)}", ""]
    lines += ["    :", "}", "", f"PAGE_KIB={page_bytes // 1024}", _FUNCTIONS.strip(), _MAIN.rstrip()]
    return "\n".join(lines) + "\n"


def _call(one: Setting) -> str:
    if one.path.startswith("neigh:"):
        address, _, device = one.path.removeprefix("neigh:").partition(" dev ")
        return f'"$1"_neighbour {quote(address)} {quote(device)}'
    kind = "raise" if one.id == "vm.min_free_kbytes" else "file"
    return f'"$1"_{kind} {quote(one.path)} {quote(one.old or "")} {quote(one.new)}'
