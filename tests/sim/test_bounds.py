"""The bounds of theory on the running mechanism, `mail` with T tickets of one page and a ring of K.

The counter model (a state is how many pages are where) has an exact bound on the reserve R: a deadlock is reachable if
and only if R < K + 1 or R < 2T (R < T + 1 where the acknowledgement gives a request's transmit page back before the
reply, as it does here).

What holds here, and is asserted:

- R < K: the ring is charged first, so the throttle says REFUSED and nothing is tried.
- R >= max(K + 1, 2T): no run is STUCK, none is LUCKY, with segments out of order too.
- With more tickets than pages the bound is no formality: K = 4, T = 16 is STUCK for every R from K + 1 to 2K.

The rest of "if and only if" does not carry over, for three reasons. The model's trap needs every page above the
reserve dirty before the first request is sent; here kswapd writes from low on, some 7/3 R pages above the reserve, so
the ring is rarely filled from it to the last page while nothing is in flight: R = K survives. A ticket that was
granted is not sent at once, since one sender takes page after page and a server answers meanwhile: T requests never
have all their pages out at the same moment, and R between T/2 and T + 1 survives what the model's adversary would not
let it. And chance is no adversary: a schedule that exists need not be drawn. On the other side a request here takes
two transmit pages (header and data) where the model's takes one, which is why 2T, not T + 1, is asserted as enough.
"""

from __future__ import annotations

import pytest
from tests.sim.machines import case_of

from tidegate.designs import design
from tidegate.sim.run import simulate
from tidegate.simulation import Word

SEEDS = (1, 2)
ORDERS = {"in order": {}, "out of order": {"reorder_ppm": 500_000, "reorder_us": 3000}}


def words(ring: int, tickets: int, reserve: int, faults: dict[str, int]) -> set[Word]:
    case = case_of(
        machine={"pages": 512, "reserve_pages": reserve},
        nic={"ring": ring},
        user=[{"connections": 1, "tickets": tickets, "service_us": 1000}],
        traffic=[{"packets_per_s": 40_000, "from_ms": 20, "rcvbuf_bytes": 1 << 20}],
        load={"programs": 8, "dirty_us": 20},
        faults=faults,
        run={"storm_ms": 200, "gap_ms": 100},
    )
    return {simulate(case, design("mail"), seed).word for seed in SEEDS}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("ring", "tickets"), [(4, 1), (4, 4), (4, 8), (4, 16), (8, 2), (8, 8), (16, 16)])
def test_the_bound_of_the_model_is_enough(ring: int, tickets: int, order: str) -> None:
    bound = max(ring + 1, 2 * tickets)
    for reserve in (bound, bound + 1, bound + ring):
        assert words(ring, tickets, reserve, ORDERS[order]) == {Word.SEEN}, reserve


@pytest.mark.parametrize("ring", [4, 8])
def test_less_than_the_ring_is_refused(ring: int) -> None:
    assert words(ring, 1, ring - 1, {}) == {Word.REFUSED}
    assert Word.REFUSED not in words(ring, 1, ring, {})


@pytest.mark.parametrize("order", ORDERS)
def test_below_the_bound_it_is_stuck(order: str) -> None:
    """The smallest reserve that is not STUCK lies above what the ring needs, and not above the model's bound."""
    not_stuck = [
        reserve for reserve in range(5, 2 * 16 + 1) if Word.STUCK not in words(4, 16, reserve, ORDERS[order])
    ]
    assert min(not_stuck) > 4 + 1
    assert {5, 6, 7, 8}.isdisjoint(not_stuck)
    assert set(range(2 * 16 - 8, 2 * 16 + 1)) <= set(not_stuck)
