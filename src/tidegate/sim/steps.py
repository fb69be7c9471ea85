"""Every step of the mechanism by name, and whose it is.

A step is what `Machine.steps` counts. The names are kernel functions where there is one. *System* steps (kernel, NIC,
server, delivery on the wire, timers) are bound by fairness, *adversary* steps (foreign packets, loss, reordering,
readers, dirtying, coins, other holders of PF_MEMALLOC, faults, administrators) by nothing; the calm is what the system
does alone. An outcome belongs to its action: a packet that the wire reorders is still delivered by a system step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tidegate.trace import Event, Kind

if TYPE_CHECKING:
    from tidegate.sim.machine import Machine

_SYSTEM = """
    ack_failed admit crypt_waits end_request gate_drop icmp_rcv ip_frag_queue ip_rcv kswapd left napi_poll
    net_rx_action netif_rx netif_rx_bypass nic_interrupt nic_watchdog refill_failed refill_work resize_waits
    retransmit_failed rx_nobuf server_reply server_retransmit sk_stream_wait_memory sk_stream_wait_sndbuf submit_bio
    swapin_readahead tcp_clean_rtx_queue tcp_connect tcp_data_queue tcp_data_queue_ofo tcp_ofo_queue
    tcp_prune_ofo_queue tcp_retransmit_skb tcp_retransmit_timer tcp_send_ack tcp_v4_rcv tcp_write_xmit
    throttle_direct_reclaim throttled try_to_free_pages wire hook
"""
_ADVERSARY = """
    admin_writes coin connect connection_reset dirty_page eat foreign_packet foreign_read hook_read leave unasked
    wire_loss wire_reorder
"""

STEPS: dict[str, Kind] = dict.fromkeys(_SYSTEM.split(), Kind.SYSTEM) | dict.fromkeys(
    _ADVERSARY.split(), Kind.ADVERSARY
)


class TracedSteps(dict[str, int]):
    """Counts steps, and hands each on as an event; used only where a trace is asked for."""

    def __init__(self, m: Machine, tell: Callable[[Event], None]) -> None:
        super().__init__(dict.fromkeys(STEPS, 0))
        self._m = m
        self._tell = tell

    def __setitem__(self, step: str, count: int) -> None:
        m = self._m
        facts: dict[str, int | str] = {
            "free": m.zone.free,
            "reserve_out": m.zone.reserve_out,
            "ring": len(m.nic.area),
            "softnet": len(m.softnet),
        }
        self._tell(Event(time_ns=m.clock.now, step=step, kind=STEPS[step], facts=facts))
        super().__setitem__(step, count)
