"""Block users: a swap device or disk on the network, its queue and its sender (drivers/block/nbd.c and its like).

A request passes the throttle first, once, at the top, before any tag, lock or page is taken; then it gets a tag of
the queue, then the connection's sender (one at a time: tx_lock), which copies it page by page into memory that stays
until it is acknowledged. The reply ends it.

The mail: "The block driver that submits the network IO must pre-account any per-request resources and block until
sufficient resources become available."

Not modelled: bios and their pools, merging, IO schedulers, data that is sent without a copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tidegate.case import User
from tidegate.design import Kernel, Pool, Refill
from tidegate.need import Request, connection_fixed, largest_need, stack_need, users_stack
from tidegate.sim.clock import MS, US
from tidegate.sim.gfp import GFP_NOIO, NOMEMALLOC
from tidegate.sim.page_alloc import NONE, alloc_pages, free_pages
from tidegate.sim.pools import ReservePool
from tidegate.sim.server import Server
from tidegate.sim.sock import Sock, sk_set_memalloc
from tidegate.sim.tcp import Connection, tcp_reset, tcp_transmit

if TYPE_CHECKING:
    from tidegate.sim.machine import Machine
    from tidegate.sim.throttle import Ticket

PAGE_BYTES = 4096
PAGE_SEGMENTS = 3  # ceil((4096 + 28) / 1448)
WAIT_MEMORY_NS = 2 * MS  # sk_stream_wait_memory(): a short sleep, then longer ones
WAIT_MEMORY_MAX_NS = 200 * MS
SNDBUF_CAP_BYTES = 32_768
RCVBUF_CAP_BYTES = 65_536


class BlockRequest:
    """One request on its way. `pages` are the data's tokens; for a read those that were taken to receive into."""

    __slots__ = (
        "admitted", "born_ns", "copies", "done", "entered", "legs", "message", "pages", "pf_memalloc",
        "reads", "ticket", "user",
    )  # fmt: skip

    def __init__(self, user: BlockUser, pages: list[int], *, reads: bool, pf_memalloc: bool) -> None:
        self.user = user
        self.pages = pages
        self.reads = reads
        self.pf_memalloc = pf_memalloc
        self.copies: list[int] = []  # of the data, encrypted
        self.ticket: Ticket | None = None
        self.admitted = False
        self.entered: Callable[[], None] | None = None  # the submitter, where it was held back
        self.done: Callable[[], None] | None = None
        self.message = -1
        self.legs = 0
        self.born_ns = 0


class Sender:
    """One connection and the requests that wait for its tx_lock."""

    __slots__ = ("conn", "copied", "head", "pool", "queue", "retry_ns", "user", "waiting")

    def __init__(self, user: BlockUser, conn: Connection, pool: ReservePool | None) -> None:
        self.user = user
        self.conn = conn
        self.pool = pool
        self.queue: deque[BlockRequest] = deque()
        self.retry_ns = WAIT_MEMORY_NS
        self.waiting = False  # for memory
        self.copied = 0  # pages of the first request in the queue
        self.head: Callable[[], None] | None = None  # frees its headers, which go with the first page


class BlockUser:
    """A block user. `dirty` holds the tokens of pages that are due to be written through it."""

    __slots__ = (
        "admitted", "case", "completed", "connected", "demand_ns", "dirty", "fixed_pages", "gap_from_ns",
        "gap_ns", "in_flight", "largest_pages", "last_ns", "latency_ns", "leaving", "m", "name",
        "next_message", "pending", "queued", "read_need", "read_pages", "requests", "senders",
        "storm_gap_ns", "storm_last_ns", "swapped", "tagq", "ticketq", "tickets", "write_need", "write_pages",
    )  # fmt: skip

    def __init__(self, m: Machine, case: User) -> None:
        self.m = m
        self.case = case
        self.name = case.name
        self.connected = False
        self.leaving = False
        self.dirty: deque[int] = deque()
        self.swapped = 0  # pages that can be read back
        self.pending = 0  # requests offered and not completed
        self.in_flight = 0  # those with a tag
        self.admitted = self.completed = 0
        self.latency_ns = 0
        self.queued = 0  # waiting for the throttle or a tag
        self.tagq: deque[BlockRequest] = deque()
        self.ticketq: deque[BlockRequest] = deque()
        self.tickets = case.tickets
        self.requests: dict[int, BlockRequest] = {}
        self.next_message = 0
        self.write_pages = self.read_pages = 0  # in requests at this moment
        self.demand_ns = -1
        self.last_ns = 0
        self.gap_ns = self.gap_from_ns = self.storm_gap_ns = self.storm_last_ns = 0
        layers = users_stack(
            m.case, case, whole_ring=m.design.refill is Refill.RING, acks=m.design.memalloc_acks
        )
        self.fixed_pages = connection_fixed(layers).total_pages
        self.largest_pages = largest_need(layers, case).total_pages
        self.write_need = [
            stack_need(layers, Request(pages=pages)).total_pages for pages in range(case.request_pages + 1)
        ]
        self.read_need = stack_need(layers, Request(pages=case.readahead_pages, reads=True)).total_pages
        self.senders = [self._open(m, number) for number in range(case.connections)]

    def _open(self, m: Machine, number: int) -> Sender:
        case, design = self.case, m.design
        rcvbuf = min(case.rcvbuf_bytes, RCVBUF_CAP_BYTES) if design.caps else case.rcvbuf_bytes
        sk = Sock("tcp", rcvbuf, "block_socket")
        if case.memalloc:
            sk_set_memalloc(m, sk)
        pool = None
        if design.pool is Pool.MEMPOOL:
            pool = m.pools[0]
        elif design.pool is Pool.SOCKET:
            pool = next(one for one in m.pools if one.name == f"send {self.name}/{number}")
        sender: Sender
        conn = Connection(m, sk, self._read, lambda: _written(sender))
        conn.server = Server(m, conn, latency_ns=case.latency_us * US, service_ns=case.service_us * US)
        sender = Sender(self, conn, pool)
        return sender

    def _read(self, message: int) -> None:
        request = self.requests.get(message)
        if request is not None:
            request.legs -= 1
            if request.legs == 0:
                end_request(request)

    def demand(self) -> None:
        """Something is offered from now on."""
        if self.demand_ns < 0:
            self.demand_ns = self.m.clock.now

    def progress(self) -> None:
        """A request has completed: the time without progress ends."""
        now = self.m.clock.now
        gap = self.open_gap()
        if gap > self.gap_ns:
            self.gap_ns, self.gap_from_ns = gap, now - gap
        self.last_ns = now
        self.demand_ns = now if self.pending else -1

    def open_gap(self) -> int:
        """How long there has been demand and no completion."""
        return self.m.clock.now - self.demand_ns if self.demand_ns >= 0 else 0


def submit_bio(request: BlockRequest) -> bool:
    """Offers a request; false where the submitter is held back (then `request.entered` is called later)."""
    user = request.user
    m = user.m
    m.steps["submit_bio"] += 1
    user.pending += 1
    user.queued += 1
    user.demand()
    request.born_ns = m.clock.now
    if request.reads:
        user.read_pages += len(request.pages)
    else:
        user.write_pages += len(request.pages)
    if not m.design.throttle:
        _get_request(request)
    elif user.case.tickets:
        if user.tickets:
            user.tickets -= 1
            _get_request(request)
        else:
            user.ticketq.append(request)
    else:
        assert m.ledger is not None
        need = user.read_need if request.reads else user.write_need[len(request.pages)]
        ticket = m.ledger.admit(user.name, need, partial(_granted, request))
        if ticket is not None:
            _granted(request, ticket)
    if not request.admitted:
        m.first(
            "throttled",
            "the throttle holds a submission back: the reserve is accounted for",
            free_pages=m.zone.free,
        )
        m.steps["throttled"] += 1
    return request.admitted


def _granted(request: BlockRequest, ticket: Ticket) -> None:
    request.ticket = ticket
    _get_request(request)


def _get_request(request: BlockRequest) -> None:
    """A tag of the queue (nr_requests), or the queue for one."""
    user = request.user
    if user.in_flight >= user.case.queue_depth:
        user.tagq.append(request)
        return
    user.in_flight += 1
    user.queued -= 1
    user.admitted += 1
    request.admitted = True
    request.message = user.next_message
    user.next_message += 1
    user.requests[request.message] = request
    user.m.steps["admit"] += 1
    if user.case.encrypts and not request.reads:
        crypt_alloc_buffer(request)
    else:
        _to_senders(request)
    if request.entered is not None:
        entered, request.entered = request.entered, None
        entered()


def crypt_alloc_buffer(request: BlockRequest) -> None:
    """Encryption writes into pages of its own, which stay until the request has ended."""
    user = request.user
    m = user.m
    while len(request.copies) < len(request.pages):
        token = alloc_pages(m.zone, GFP_NOIO, 0, pf_memalloc=request.pf_memalloc or m.design.memalloc_acks)
        if token == NONE:
            m.steps["crypt_waits"] += 1
            m.clock.after(WAIT_MEMORY_MAX_NS, crypt_alloc_buffer, request)
            return
        if request.ticket is not None and m.ledger is not None:
            m.ledger.withdraw(request.ticket, 1, "crypt")
        request.copies.append(token)
        m.tx_pages += 1
    _to_senders(request)


def _to_senders(request: BlockRequest) -> None:
    user = request.user
    legs = min(user.case.mirror, len(user.senders))
    request.legs = legs
    first = request.message % len(user.senders)
    senders = [user.senders[(first + leg) % len(user.senders)] for leg in range(legs)]
    for sender in senders:
        sender.queue.append(request)
        nbd_send(sender)


def nbd_send(sender: Sender) -> None:
    """The holder of tx_lock: sends what it can, page by page, and sleeps where memory or the buffer is short."""
    conn, user = sender.conn, sender.user
    m = user.m
    sndbuf = min(user.case.sndbuf_bytes, SNDBUF_CAP_BYTES) if m.design.caps else user.case.sndbuf_bytes
    while sender.queue and conn.up and not sender.waiting:
        request = sender.queue[0]
        if conn.wmem and conn.wmem + PAGE_BYTES > sndbuf:
            m.steps["sk_stream_wait_sndbuf"] += 1
            return  # tcp_ack() calls us again
        if m.tcp_mem_bytes and m.tcp_bytes + PAGE_BYTES > m.tcp_mem_bytes:
            m.tcp_pressure()
            _wait_memory(sender)
            return
        free = _tx_alloc(sender, request)
        if free is None:
            return
        if sender.head is None and not sender.copied:
            if request.reads:
                _transmit(sender, request, 1, free)
                _sent(sender)
            else:
                sender.head = free
        else:
            sender.copied += 1
            _transmit(sender, request, PAGE_SEGMENTS, free)
            if sender.copied == len(request.pages):
                _sent(sender)


def _transmit(sender: Sender, request: BlockRequest, segments: int, free: Callable[[], None]) -> None:
    """One unit; with the first the server learns what to expect."""
    conn = sender.conn
    size = PAGE_BYTES
    if sender.copied <= 1:
        whole = 1 if request.reads else PAGE_SEGMENTS * len(request.pages)
        conn.server.expect(conn.snd_nxt + whole, request.message, *_replies(request))
        if sender.head is not None:
            free = partial(_both, sender.head, free)
            sender.head = None
            size += PAGE_BYTES
    tcp_transmit(conn, segments, size, free)


def _both(one: Callable[[], None], other: Callable[[], None]) -> None:
    one()
    other()


def _sent(sender: Sender) -> None:
    sender.queue.popleft()
    sender.copied = 0


def _replies(request: BlockRequest) -> tuple[int, int]:
    """Segments and bytes of a frame that the server answers with: a write's status, a read's data."""
    if request.reads:
        return -(-(len(request.pages) * PAGE_BYTES + 16) // 1448), 1514
    return (2, 114) if request.user.case.transport == "iscsi" else (1, 82)  # R2T and response; nbd_reply


def _tx_alloc(sender: Sender, request: BlockRequest) -> Callable[[], None] | None:
    """A page to send from: ordinary first; then what the design has for it; else the sender sleeps and tries again.

    PF_MEMALLOC comes with the submitter (kswapd, direct reclaim); 6.12 sets it around every send, and the mail's
    accounting "would include both space for transmit and acknowledge".
    """
    m = sender.user.m
    zone = m.zone
    if sender.pool is not None:
        token = alloc_pages(zone, GFP_NOIO | NOMEMALLOC, 0, pf_memalloc=False)
        if token == NONE and sender.pool.take():
            sender.retry_ns = WAIT_MEMORY_NS
            return sender.pool.put
    else:
        pf_memalloc = request.pf_memalloc or m.design.pfmemalloc or m.design.memalloc_acks
        token = alloc_pages(zone, GFP_NOIO, 0, pf_memalloc=pf_memalloc)
    if token == NONE:
        m.steps["sk_stream_wait_memory"] += 1
        m.first("send_waits", "block IO finds no memory to send with", free_pages=zone.free)
        _wait_memory(sender)
        return None
    sender.retry_ns = WAIT_MEMORY_NS
    m.tx_pages += 1
    ticket = request.ticket
    if ticket is None or m.ledger is None:
        return partial(_tx_free, m, token)
    m.ledger.withdraw(ticket, 1, "tcp")
    return partial(_tx_free_ticket, m, token, ticket)


def _tx_free(m: Machine, token: int) -> None:
    m.tx_pages -= 1
    free_pages(m.zone, token, 0)


def _tx_free_ticket(m: Machine, token: int, ticket: Ticket) -> None:
    m.tx_pages -= 1
    free_pages(m.zone, token, 0)
    assert m.ledger is not None
    m.ledger.give_back(ticket, 1)


def _wait_memory(sender: Sender) -> None:
    sender.waiting = True
    sender.user.m.clock.after(sender.retry_ns, _retry, sender)
    sender.retry_ns = min(sender.retry_ns * 2, WAIT_MEMORY_MAX_NS)


def _retry(sender: Sender) -> None:
    sender.waiting = False
    nbd_send(sender)


def _written(sender: Sender) -> None:
    if sender.user.case.memalloc and not sender.conn.sk.memalloc:
        # After a reset: the handshake is over, and the new socket is handed to the driver (nbd_reconnect_socket()).
        sk_set_memalloc(sender.user.m, sender.conn.sk)
    if not sender.waiting:
        nbd_send(sender)


def end_request(request: BlockRequest) -> None:
    """The reply is there: the block layer ends the request, and what it held comes back."""
    user = request.user
    m = user.m
    del user.requests[request.message]
    m.steps["end_request"] += 1
    user.pending -= 1
    user.in_flight -= 1
    user.completed += 1
    user.latency_ns += m.clock.now - request.born_ns
    user.progress()
    if request.reads:
        user.read_pages -= len(request.pages)
        user.dirty.extend(request.pages)  # anonymous memory that was swapped in is dirtied again
    else:
        user.write_pages -= len(request.pages)
        user.swapped += len(request.pages)
        for token in request.pages:
            free_pages(m.zone, token, 0)
    for token in request.copies:
        _tx_free(m, token)
        if request.ticket is not None and m.ledger is not None:
            m.ledger.give_back(request.ticket, 1)
    if user.tagq:  # before whoever the throttle lets in now: they came later
        _get_request(user.tagq.popleft())
    if request.ticket is not None:
        assert m.ledger is not None
        m.ledger.end(request.ticket)
    elif m.design.throttle and user.case.tickets:
        if user.ticketq:
            _get_request(user.ticketq.popleft())
        else:
            user.tickets += 1
    if request.done is not None:
        request.done()


def reset(user: BlockUser) -> None:
    """The peer resets every connection: what was sent and not answered is sent again when it is up."""
    m = user.m
    m.note("reset", f"the connection of {user.name} is reset with {len(user.requests)} requests in flight")
    for sender in user.senders:
        tcp_reset(sender.conn)
        sender.conn.server.forget()
        if sender.head is not None:
            sender.head()
            sender.head = None
        sender.copied = 0
        sender.queue.clear()
        if user.case.transport == "nbd" or m.design.kernel is Kernel.V6_12:
            # User space makes the new socket (nbd-client; iscsid logs in); it is flagged when the driver gets it.
            sender.conn.sk.memalloc = False
    for request in user.requests.values():
        if user.case.encrypts and not request.reads and len(request.copies) < len(request.pages):
            continue  # it goes to the senders when its copy is made
        sender = user.senders[request.message % len(user.senders)]
        request.legs = 1
        sender.queue.append(request)
    for sender in user.senders:
        sender.conn.server.connect()
