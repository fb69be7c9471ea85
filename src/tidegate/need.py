"""What a block request may withdraw at worst: each layer says its share, and the shares are summed down the stack.

The mail of August 2005 demands that the submitter accounts for a request beforehand, "both space for transmit and
acknowledge", and waves its hands "at the question of how we arrange for low-level components to communicate their
resource needs to high-level throttlers". Here a layer answers four questions, with numbers only:

- `need(request)`: what it withdraws itself for the request, the worst that is out at one moment;
- `asks(request)`: what it asks of the layer below (a mirror asks once a leg, TCP asks the NIC for frames);
- `fixed()`: what it withdraws for the connection, whatever is requested;
- `standing()`: what it asks of the layer below at any time though nobody requested it (a ping of the target).

A stack is a tuple of layers, top first. All is pure arithmetic, and monotone in the pages of a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tidegate.case import PAGE_BYTES, Case, Driver, User
from tidegate.frames import REPLY_HEADER, TCP_HEADERS
from tidegate.units import div_ceil

RTO_MIN_MS = 200  # TCP_RTO_MIN: a lost segment holds up what came after it for at least so long
DATA_SEGMENT_BYTES = 8192  # MaxRecvDataSegmentLength where nobody negotiates another (RFC 7143, 13.12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The worst that is withdrawn at one moment. Pages are of order 0; larger blocks are counted by order."""

    transmit_pages: int = 0
    receive_pages: int = 0
    by_order: tuple[tuple[int, int], ...] = ()  # (order, blocks), order > 0, ascending, no block count of 0

    def __post_init__(self) -> None:
        orders = [order for order, _ in self.by_order]
        assert self.transmit_pages >= 0, self
        assert self.receive_pages >= 0, self
        assert orders == sorted(set(orders)), self
        assert all(order > 0 and blocks > 0 for order, blocks in self.by_order), self

    @property
    def total_pages(self) -> int:
        """All of it in pages. A free page is not a free block: see `by_order` where the buddy lists count."""
        return self.transmit_pages + self.receive_pages + sum(n << order for order, n in self.by_order)

    def __add__(self, other: Need) -> Need:
        """Both at the same moment."""
        if not self.by_order or not other.by_order:
            blocks = self.by_order or other.by_order
        else:
            one, two = dict(self.by_order), dict(other.by_order)
            blocks = tuple((order, one.get(order, 0) + two.get(order, 0)) for order in sorted({*one, *two}))
        return Need(
            transmit_pages=self.transmit_pages + other.transmit_pages,
            receive_pages=self.receive_pages + other.receive_pages,
            by_order=blocks,
        )

    def times(self, count: int) -> Need:
        """The same need `count` times at one moment."""
        assert count >= 0, count
        return Need(
            transmit_pages=self.transmit_pages * count,
            receive_pages=self.receive_pages * count,
            by_order=tuple((order, blocks * count) for order, blocks in self.by_order if count),
        )

    def __le__(self, other: Need) -> bool:
        """No part is larger. A partial order: of two needs, neither may be within the other."""
        theirs = dict(other.by_order)
        return (
            self.transmit_pages <= other.transmit_pages
            and self.receive_pages <= other.receive_pages
            and all(blocks <= theirs.get(order, 0) for order, blocks in self.by_order)
        )

    def fits(self, into_pages: int) -> bool:
        """Whether so many pages are enough, when a block of any order can be had of them."""
        return self.total_pages <= into_pages


NOTHING = Need()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a layer: by the block layer data to write or read; further down replies, then frames."""

    pages: int  # of data
    reads: bool = False
    replies_bytes: tuple[int, ...] = ()  # messages that come back; the transport fills it in
    frames: int = 0  # that come back; TCP fills it in


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer that withdraws nothing and hands every request on. The others say what is different."""

    @property
    def name(self) -> str:
        """What the layer is called where it is named as the one that lied."""
        return type(self).__name__.lower()

    def fixed(self) -> Need:
        """Its own withdrawal for one connection, or for the ring; charged at connect."""
        return NOTHING

    def standing(self) -> tuple[Request, ...]:
        """What it asks of the layer below at any time though nobody requested it."""
        return ()

    def need(self, request: Request) -> Need:  # noqa: ARG002 - the others do look at it
        """Its own worst withdrawal for a request, those of the layers below not included."""
        return NOTHING

    def asks(self, request: Request) -> tuple[Request, ...]:
        """What it asks of the layer below for a request, all of it at one moment."""
        return (request,)

    def spread(self) -> int:
        """How many connections, or stacks of them, lie below it."""
        return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic(Layer):
    """The receive ring, which all users of a NIC share, and the buffers that frames lie in."""

    ring: int
    buffer_bytes: int = 2048
    page_per_skb: bool = False
    whole_ring: bool = True  # method 1 of the thread of 2005: any slot may hold a buffer from the reserve

    def frames(self, count: int) -> Need:
        """What `count` received frames pin.

        Never less than a page each: of a slab page that came from the reserve one object may stay while its
        neighbours are long free. Larger buffers are blocks, rounded up to an order as kmalloc does.
        """
        order = (div_ceil(self.buffer_bytes, PAGE_BYTES) - 1).bit_length()
        if order == 0 or self.page_per_skb or count == 0:
            return Need(receive_pages=count)
        return Need(by_order=((order, count),))

    def fixed(self) -> Need:
        """The whole ring; or, where only an empty ring is refilled from the reserve, one buffer."""
        return self.frames(self.ring if self.whole_ring else 1)

    def need(self, request: Request) -> Need:
        """A buffer a frame: the slot that it leaves is refilled while it waits in a queue of its socket."""
        return self.frames(request.frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcp(Layer):
    """Segments, and the copies that wait until they are acknowledged. A resend takes no new data pages."""

    mss_bytes: int = 1500 - TCP_HEADERS
    out_of_order: bool = True  # segments behind a hole are kept
    acks: bool = True  # the acknowledgements that we send come from the reserve

    def fixed(self) -> Need:
        """One acknowledgement of ours. Where a second finds no memory, tcp_send_ack() sets the timer instead."""
        return Need(transmit_pages=1 if self.acks else 0)

    def standing(self) -> tuple[Request, ...]:
        """A frame that only acknowledges lives for one softirq, and a softirq handles one after the other.

        Out of order costs one more, for the overlap of a repeated segment with what is already queued: a sender
        repeats segments within the boundaries they had. Whatever else lies in that queue is a reply that some
        request has accounted for ("out of order does not matter", says the mail).
        """
        return (Request(pages=0, reads=True, frames=2 if self.out_of_order else 1),)

    def need(self, request: Request) -> Need:
        """The data of a write, copied by tcp_sendmsg(), and a page of heads and headers."""
        return Need(transmit_pages=1 if request.reads else request.pages + 1)

    def asks(self, request: Request) -> tuple[Request, ...]:
        """The frames that the replies come in, each reply beginning a new one."""
        frames = sum(div_ceil(length, self.mss_bytes) for length in request.replies_bytes)
        return (replace(request, replies_bytes=(), frames=request.frames + frames),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nbd(Layer):
    """One reply a request, with the data of a read behind its header."""

    unasked_messages: int = 0  # most messages of the server at one moment that nobody asked for

    def standing(self) -> tuple[Request, ...]:
        """Each message, and an answer to it."""
        return _unasked(self.unasked_messages, REPLY_HEADER["nbd"])

    def asks(self, request: Request) -> tuple[Request, ...]:
        """The same request, with its reply."""
        data = request.pages * PAGE_BYTES if request.reads else 0
        return (replace(request, replies_bytes=(data + REPLY_HEADER["nbd"],)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Iscsi(Layer):
    """A write is answered by R2T and response, a read by Data-In and response; the target pings (NOP-In)."""

    unasked_messages: int = 1  # a NOP-In that wants an answer, asynchronous messages

    def standing(self) -> tuple[Request, ...]:
        """Each message, and the NOP-Out that answers it."""
        return _unasked(self.unasked_messages, REPLY_HEADER["iscsi"])

    def asks(self, request: Request) -> tuple[Request, ...]:
        """The same request, with its PDUs. One R2T at a time: MaxOutstandingR2T is 1 (RFC 7143, 13.17)."""
        header = REPLY_HEADER["iscsi"]
        if not request.reads:
            return (replace(request, replies_bytes=(header, header)),)
        data = request.pages * PAGE_BYTES
        return (replace(request, replies_bytes=(data + div_ceil(data, DATA_SEGMENT_BYTES) * header, header)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections(Layer):
    """Several connections of one device. A request takes one of them."""

    count: int

    def spread(self) -> int:
        """So many connections."""
        return self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror(Layer):
    """A write goes to every leg at once, a read to one of them (raid1.c: read_balance()).

    A read that failed is tried on another leg when the first attempt is over, on the same ticket.
    """

    legs: int

    def asks(self, request: Request) -> tuple[Request, ...]:
        """The request, once for each leg that it goes to."""
        return (request,) * (1 if request.reads else self.legs)

    def spread(self) -> int:
        """Every leg has connections of its own."""
        return self.legs


@dataclass(frozen=True, slots=True, kw_only=True)
class Crypt(Layer):
    """A write is encrypted into pages of its own; a read is decrypted where it lies (dm-crypt.c)."""

    def need(self, request: Request) -> Need:
        """A second copy of what is written (crypt_alloc_buffer())."""
        return Need(transmit_pages=0 if request.reads else request.pages)


def stack_need(layers: Sequence[Layer], request: Request) -> Need:
    """The worst withdrawal for a request, of all layers together. `layers`: top first."""
    total = NOTHING
    for _, need in _walk(layers, request):
        total += need
    return total


def stack_shares(layers: Sequence[Layer], request: Request) -> dict[str, int]:
    """The same in pages by the name of the layer: who withdraws more than its share has lied."""
    shares: dict[str, int] = {}
    for name, need in _walk(layers, request):
        shares[name] = shares.get(name, 0) + need.total_pages
    return shares


def stack_fixed(layers: Sequence[Layer]) -> Need:
    """What is charged at connect: the connections of the stack, and the ring of the NIC once."""
    total = connection_fixed(layers)
    for layer in layers:
        if isinstance(layer, Nic):
            total += layer.fixed()
    return total


def connection_fixed(layers: Sequence[Layer]) -> Need:
    """What is charged at connect without the ring, which all users of the NIC share."""
    if not layers or isinstance(layers[0], Nic):
        return NOTHING
    top, below = layers[0], layers[1:]
    total = top.fixed() + connection_fixed(below).times(top.spread())
    for request in top.standing():
        total += stack_need(below, request)
    return total


def users_stack(case: Case, user: User, *, whole_ring: bool = True, acks: bool = True) -> tuple[Layer, ...]:
    """The layers below a block user of a case, top first.

    `whole_ring` and `acks` are the design's: `refill` is `ring`, `memalloc_acks`. Encryption lies above the mirror, so
    that one copy is made for all legs.
    """
    above: list[Layer] = []
    if user.encrypts:
        above.append(Crypt())
    if user.mirror > 1:
        above.append(Mirror(legs=user.mirror))
    if user.connections > 1:
        above.append(Connections(count=user.connections))
    unasked = _unasked_messages(case, user)
    transport = Nbd(unasked_messages=unasked) if user.transport == "nbd" else Iscsi(unasked_messages=unasked)
    return (*above, transport, Tcp(acks=acks), _nic(case, whole_ring=whole_ring))


def ring_need(case: Case, *, whole_ring: bool = True) -> Need:
    """What the receive ring of a case withdraws, charged once, whoever is connected."""
    return _nic(case, whole_ring=whole_ring).fixed()


def largest_need(layers: Sequence[Layer], user: User) -> Need:
    """The larger need of the user's largest write and, where it reads at all, its largest read."""
    write = stack_need(layers, Request(pages=user.request_pages))
    if not user.reads_percent:
        return write
    read = stack_need(layers, Request(pages=user.readahead_pages, reads=True))
    return max(write, read, key=lambda need: need.total_pages)


def capacity_needed(case: Case, *, whole_ring: bool = True, acks: bool = True) -> int:
    """Pages that a reserve must hold so that every user of the case may connect: below it one is refused.

    The ring, what is fixed for each connection, and one largest request a user.
    """
    pages = ring_need(case, whole_ring=whole_ring).total_pages
    for user in case.user:
        layers = users_stack(case, user, whole_ring=whole_ring, acks=acks)
        pages += (connection_fixed(layers) + largest_need(layers, user)).total_pages
    return pages


def _walk(layers: Sequence[Layer], request: Request) -> Iterator[tuple[str, Need]]:
    if not layers:
        return
    top, below = layers[0], layers[1:]
    yield top.name, top.need(request)
    for one in top.asks(request):
        yield from _walk(below, one)


def _unasked(messages: int, length_bytes: int) -> tuple[Request, ...]:
    return (Request(pages=0, reads=True, replies_bytes=(length_bytes,)),) * messages


def _nic(case: Case, *, whole_ring: bool) -> Nic:
    nic = case.nic
    return Nic(
        ring=nic.ring,
        buffer_bytes=nic.buffer_bytes,
        page_per_skb=case.machine.page_per_skb,
        # A driver that copies every packet keeps the buffers it was opened with.
        whole_ring=whole_ring and nic.driver is not Driver.COPY,
    )


def _unasked_messages(case: Case, user: User) -> int:
    """How many lie behind one lost segment, at most what the socket's buffer takes."""
    behind_a_hole = div_ceil(user.unasked_per_s * RTO_MIN_MS, 1000)
    return min(behind_a_hole, user.rcvbuf_bytes // case.nic.buffer_bytes + 1)
