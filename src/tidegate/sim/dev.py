"""From the driver to the protocols (net/core/dev.c).

netif_rx() puts packets into one queue for all devices and protocols, softnet, which a softirq empties. The mail:
"softnet introduces additional queues that need throttling (which can't be done sanely) or bypassing". NAPI drivers
never use the queue: for them the bypass is moot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.case import HookKind
from tidegate.sim.gfp import GFP_ATOMIC, MEMALLOC
from tidegate.sim.ipv4 import ip_rcv
from tidegate.sim.skbuff import Skb, is_memalloc_skb, kfree_skb, skb_clone, skb_copy
from tidegate.sim.sock import sock_queue_rcv_skb
from tidegate.sim.tcp import tcp_v4_rcv

if TYPE_CHECKING:
    from tidegate.sim.machine import Hooked, Machine


def netif_rx(m: Machine, skb: Skb) -> bool:
    """Into softnet, or past it: the hunk hands a marked packet on at once; whether the interrupt did all the work."""
    marked = skb.mark or (m.pages_out > 0 and is_memalloc_skb(m, skb))
    if marked and m.design.bypass:
        m.steps["netif_rx_bypass"] += 1
        netif_receive_skb(m, skb)
        return True
    queue = m.softnet
    if marked and m.design.softnet_throttle and m.softnet_marked >= m.softnet_share:
        m.drop(skb, "SOFTNET_THROTTLE")
        return False
    if len(queue) > m.backlog:  # netdev_max_backlog, as 2.6.12 compares
        m.drop(skb, "CPU_BACKLOG")
        return False
    m.steps["netif_rx"] += 1
    queue.append(skb)
    if skb.mark:
        m.softnet_marked += 1
    if skb.reserve:
        m.holding.moved(skb, "softnet")
    if not m.softnet_running:
        m.softnet_running = True
        m.clock.after(m.packet_ns, net_rx_action, m)
    return False


def net_rx_action(m: Machine) -> None:
    """One packet of the queue; the softirq goes on until the queue is empty."""
    queue = m.softnet
    skb = queue.popleft()
    if skb.mark:
        m.softnet_marked -= 1
    m.steps["net_rx_action"] += 1
    netif_receive_skb(m, skb)
    if queue:
        m.clock.after(m.packet_ns, net_rx_action, m)
    else:
        m.softnet_running = False


def netif_receive_skb(m: Machine, skb: Skb) -> None:
    """Ingress, hooks, then the protocol."""
    frame = skb.frame
    assert frame is not None
    design = m.design
    if design.early_drop and not frame.block and m.gate_closed():
        m.steps["gate_drop"] += 1
        m.drop(skb, "EARLY_DROP")
        return
    # A coin is the adversary's: in the calm it keeps what comes.
    tossed = design.coin_percent and not m.calm and m.reserve_used()
    if tossed and m.rng.randrange(100) < design.coin_percent:
        m.steps["coin"] += 1
        m.drop(skb, "COIN")
        return
    if m.hooks and not (design.pfmemalloc and skb.mark):  # 6.12: taps do not see packets of the reserve
        for hook in m.hooks:
            _deliver_hook(m, hook, skb)
    if frame.protocol == "tcp":
        tcp_v4_rcv(m, skb)
    else:
        ip_rcv(m, skb)


def _deliver_hook(m: Machine, hook: Hooked, skb: Skb) -> None:
    """A tap clones; a filter and a bridge to a guest copy. What they keep is out until somebody reads it."""
    if hook.sock.rmem + skb.truesize > hook.sock.rcvbuf:
        return
    if hook.kind is HookKind.TAP:
        kept = skb_clone(m, skb, GFP_ATOMIC)
    else:
        # A caller of dev_alloc_skb() that is no receiving driver: with the first patch it gets the flag too.
        flag = MEMALLOC if design_gives_all(m) else 0
        kept = skb_copy(m, skb, m.rx_cache, GFP_ATOMIC | flag)
    m.steps["hook"] += 1
    if kept is None:
        return
    if is_memalloc_skb(m, kept) and m.design.discard_everywhere:
        kfree_skb(m, kept)  # packet_rcv() has the test too (6.12: sk_filter_trim_cap())
        m.count("PFMEMALLOC_HOOK")
        return
    if not sock_queue_rcv_skb(m, hook.sock, kept):
        kfree_skb(m, kept)


def design_gives_all(m: Machine) -> bool:
    """Whether every caller of dev_alloc_skb() gets the flag, as in the patch that was posted first."""
    return m.design.gfp_memalloc and not m.design.driver_chooses and not m.design.pfmemalloc
