"""What a rule asks of the NICs that a block user's packets go through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tidegate.findings.exposure import graded, on_the_wire, one_answer
from tidegate.findings.rule import Judgement, absent, unknown
from tidegate.host.facts import BlockUser, Host, Link, Transport, nics_of
from tidegate.result import Evidence


def driver_name(nic: Link) -> str:
    """The driver as the table of drivers names it; a virtual device is its own driver."""
    return nic.driver or nic.kind


def nic_evidence(nic: Link) -> Evidence:
    """A NIC with its driver and receive rings."""
    ring = "not read" if nic.ring.slots is None else f"{nic.ring.slots} slots"
    queues = f", {nic.ring.queues} queues" if nic.ring.queues and nic.ring.queues > 1 else ""
    return Evidence(
        source=nic.evidence or f"sys/class/net/{nic.name}",
        value=f"{nic.name}: driver {driver_name(nic) or 'not known'}, receive ring {ring}{queues}",
    )


def over_nics(host: Host, user: BlockUser, ask: Callable[[Link], Judgement]) -> Judgement:
    """Asks for each NIC that the user's packets go through; unknown where one of them is not known."""
    if user.transport is Transport.RDMA and not host.modules & {"siw", "rdma_rxe"}:
        return absent(f"{user.name} goes over RDMA: its data are in no socket buffer")
    if not on_the_wire(user):
        return absent(f"no NIC is in the path of {user.name}: its server is this machine")
    answers = [ask(nic) for nic in nics_of(host, user)]
    unseen = [route.peer for route in user.routes if not route.local and not route.nics]
    if unseen or not answers:
        what = f"to {unseen[0]}" if unseen else "of its packets"
        answers.append(unknown(f"the NIC of {user.name} is not known: no route {what} could be followed"))
    answers = [one if one.severity else _graded(one, user) for one in answers]
    return one_answer(answers, none=f"no NIC of {user.name}")


def _graded(answer: Judgement, user: BlockUser) -> Judgement:
    return replace(answer, severity=graded(user))
