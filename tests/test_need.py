from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.case import Case, Driver, Machine, User
from tidegate.case import Nic as CaseNic
from tidegate.need import (
    NOTHING,
    Connections,
    Crypt,
    Iscsi,
    Layer,
    Mirror,
    Nbd,
    Need,
    Nic,
    Request,
    Tcp,
    capacity_needed,
    connection_fixed,
    largest_need,
    ring_need,
    stack_fixed,
    stack_need,
    stack_shares,
    users_stack,
)

NIC = Nic(ring=64)
NBD = (Nbd(), Tcp(), NIC)
ISCSI = (Iscsi(), Tcp(), NIC)


def write(pages: int) -> Request:
    return Request(pages=pages)


def read(pages: int) -> Request:
    return Request(pages=pages, reads=True)


blocks = st.dictionaries(st.integers(1, 4), st.integers(1, 9)).map(lambda found: tuple(sorted(found.items())))
needs = st.builds(Need, transmit_pages=st.integers(0, 99), receive_pages=st.integers(0, 99), by_order=blocks)
requests = st.builds(Request, pages=st.integers(1, 256), reads=st.booleans())
nics = st.builds(
    Nic,
    ring=st.integers(1, 256),
    buffer_bytes=st.sampled_from((256, 2048, 4096, 4097, 9018, 65536)),
    page_per_skb=st.booleans(),
    whole_ring=st.booleans(),
)
tops = st.lists(
    st.one_of(
        st.builds(Crypt),
        st.builds(Mirror, legs=st.integers(1, 3)),
        st.builds(Connections, count=st.integers(1, 3)),
    ),
    max_size=3,
)
transports = st.one_of(
    st.builds(Nbd, unasked_messages=st.integers(0, 3)), st.builds(Iscsi, unasked_messages=st.integers(0, 3))
)
stacks = st.builds(
    lambda above, transport, tcp, nic: (*above, transport, tcp, nic),
    tops,
    transports,
    st.builds(Tcp, out_of_order=st.booleans(), acks=st.booleans()),
    nics,
)


def test_an_nbd_write_is_its_data_a_page_of_heads_and_one_reply() -> None:
    assert stack_need(NBD, write(1)) == Need(transmit_pages=2, receive_pages=1)
    assert stack_need(NBD, write(32)) == Need(transmit_pages=33, receive_pages=1)


def test_an_nbd_read_is_one_page_out_and_the_frames_that_bring_the_data() -> None:
    # ceil((4096 + 16) / 1448) = 3, ceil((8 * 4096 + 16) / 1448) = 23
    assert stack_need(NBD, read(1)) == Need(transmit_pages=1, receive_pages=3)
    assert stack_need(NBD, read(8)) == Need(transmit_pages=1, receive_pages=23)


def test_iscsi_adds_an_r2t_to_a_write_and_headers_and_a_response_to_a_read() -> None:
    assert stack_need(ISCSI, write(1)) == Need(transmit_pages=2, receive_pages=2)
    # 8 pages in 4 Data-In PDUs: ceil((32768 + 4 * 48) / 1448) = 23, and the response
    assert stack_need(ISCSI, read(8)) == Need(transmit_pages=1, receive_pages=24)


@pytest.mark.parametrize("legs", [2, 3])
def test_a_mirror_multiplies_a_write_and_encryption_copies_its_data_once_more(legs: int) -> None:
    one = stack_need(NBD, write(4))
    assert stack_need((Mirror(legs=legs), *NBD), write(4)) == one.times(legs)
    both = stack_need((Crypt(), Mirror(legs=legs), *NBD), write(4))
    assert both == one.times(legs) + Need(transmit_pages=4)
    assert both.total_pages == legs * (4 + 1 + 1) + 4
    # Encryption below the mirror copies for every leg.
    assert stack_need((Mirror(legs=legs), Crypt(), *NBD), write(4)).total_pages == legs * (4 + 1 + 1 + 4)


@pytest.mark.parametrize("legs", [2, 3])
def test_a_read_goes_to_one_leg_and_is_decrypted_in_place(legs: int) -> None:
    assert stack_need((Crypt(), Mirror(legs=legs), *NBD), read(8)) == stack_need(NBD, read(8))


def test_several_connections_multiply_what_is_fixed_but_no_request() -> None:
    four = (Connections(count=4), *NBD)
    assert connection_fixed(four) == connection_fixed(NBD).times(4)
    assert stack_need(four, write(3)) == stack_need(NBD, write(3))


def test_a_connection_keeps_one_acknowledgement_each_way() -> None:
    in_order = (Nbd(), Tcp(out_of_order=False, acks=True), NIC)
    silent = (Nbd(), Tcp(out_of_order=False, acks=False), NIC)
    assert connection_fixed(in_order) == Need(transmit_pages=1, receive_pages=1)
    assert connection_fixed(silent) == Need(receive_pages=1)
    assert connection_fixed(NBD) == Need(transmit_pages=1, receive_pages=2)


@pytest.mark.parametrize("messages", [0, 1, 5])
def test_messages_that_nobody_asked_for_are_fixed_with_their_answers(messages: int) -> None:
    quiet = (Iscsi(unasked_messages=0), Tcp(), NIC)
    pinged = (Iscsi(unasked_messages=messages), Tcp(), NIC)
    answer_and_frame = Need(transmit_pages=1, receive_pages=1)
    assert connection_fixed(pinged) == connection_fixed(quiet) + answer_and_frame.times(messages)
    assert stack_need(pinged, write(1)) == stack_need(quiet, write(1))


def test_the_ring_is_counted_once_however_many_legs_there_are() -> None:
    mirrored = (Mirror(legs=3), *NBD)
    assert stack_fixed(NBD) == connection_fixed(NBD) + Need(receive_pages=64)
    assert stack_fixed(mirrored) == connection_fixed(NBD).times(3) + Need(receive_pages=64)


def test_without_the_whole_ring_one_buffer_is_kept_for_an_empty_one() -> None:
    assert Nic(ring=64, whole_ring=False).fixed() == Need(receive_pages=1)


@pytest.mark.parametrize(
    ("buffer_bytes", "per_frame"),
    [
        (256, Need(receive_pages=1)),
        (2048, Need(receive_pages=1)),
        (4096, Need(receive_pages=1)),
        (4097, Need(by_order=((1, 1),))),
        (9018, Need(by_order=((2, 1),))),  # three pages, in a block of four
        (65536, Need(by_order=((4, 1),))),
    ],
)
def test_a_frame_pins_a_page_or_the_block_of_its_buffer(buffer_bytes: int, per_frame: Need) -> None:
    assert Nic(ring=1, buffer_bytes=buffer_bytes).frames(3) == per_frame.times(3)
    assert Nic(ring=1, buffer_bytes=buffer_bytes, page_per_skb=True).frames(3) == Need(receive_pages=3)
    assert Nic(ring=1, buffer_bytes=buffer_bytes).frames(0) == NOTHING


def test_blocks_count_with_all_their_pages() -> None:
    need = Need(transmit_pages=1, receive_pages=2, by_order=((1, 3), (2, 1)))
    assert need.total_pages == 1 + 2 + 6 + 4
    assert need.fits(13)
    assert not need.fits(12)


@given(needs, needs, needs, st.integers(0, 5))
def test_needs_add_up(one: Need, two: Need, three: Need, count: int) -> None:
    assert (one + two).total_pages == one.total_pages + two.total_pages
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + NOTHING == one
    assert one.times(count).total_pages == count * one.total_pages
    assert one <= one + two
    assert (one <= two) == (one + three <= two + three)
    assert one.fits(one.total_pages)
    assert not (one + Need(transmit_pages=1)).fits(one.total_pages)


@given(needs, needs)
def test_needs_are_partly_ordered(one: Need, two: Need) -> None:
    assert not one <= two <= one or one == two
    assert one <= Need() + one
    assert not one <= two or one.total_pages <= two.total_pages


def test_of_two_needs_neither_may_be_within_the_other() -> None:
    sends, receives = Need(transmit_pages=1), Need(receive_pages=1)
    assert not sends <= receives
    assert not receives <= sends
    assert not Need(by_order=((1, 1),)) <= Need(receive_pages=2)


@given(stacks, requests, st.integers(0, 64))
def test_the_need_is_monotone_in_the_pages(stack: tuple[Layer, ...], request: Request, more: int) -> None:
    larger = Request(pages=request.pages + more, reads=request.reads)
    assert stack_need(stack, request) <= stack_need(stack, larger)


@given(stacks, requests, requests)
def test_one_request_needs_no_more_than_its_parts(
    stack: tuple[Layer, ...], one: Request, two: Request
) -> None:
    whole = stack_need(stack, Request(pages=one.pages + two.pages, reads=one.reads))
    parts = stack_need(stack, one) + stack_need(stack, Request(pages=two.pages, reads=one.reads))
    assert whole <= parts


@given(stacks, requests)
def test_the_shares_of_the_layers_are_the_whole(stack: tuple[Layer, ...], request: Request) -> None:
    assert sum(stack_shares(stack, request).values()) == stack_need(stack, request).total_pages


def test_the_shares_say_which_layer_withdraws_what() -> None:
    stack = (Crypt(), Mirror(legs=2), *NBD)
    assert stack_shares(stack, write(4)) == {"crypt": 4, "mirror": 0, "nbd": 0, "tcp": 10, "nic": 2}


def test_a_layer_of_ones_own_takes_part() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Checksum(Layer):
        def need(self, request: Request) -> Need:
            return Need(transmit_pages=1)

        def fixed(self) -> Need:
            return Need(transmit_pages=7)

    stack = (Checksum(), *NBD)
    assert stack_need(stack, write(1)) == stack_need(NBD, write(1)) + Need(transmit_pages=1)
    assert stack_need((Mirror(legs=2), *stack), write(1)) == stack_need(stack, write(1)).times(2)
    assert connection_fixed(stack) == connection_fixed(NBD) + Need(transmit_pages=7)


def case_of(*users: User, nic: CaseNic | None = None, machine: Machine | None = None) -> Case:
    return Case(claim="c", source="s", user=users, nic=nic or CaseNic(), machine=machine or Machine())


def test_a_users_stack_is_what_the_case_says() -> None:
    plain, full = User(), User(transport="iscsi", mirror=2, encrypts=True, connections=3, unasked_per_s=6)
    case = case_of(plain, full, nic=CaseNic(ring=32, buffer_bytes=9018), machine=Machine(page_per_skb=True))
    nic = Nic(ring=32, buffer_bytes=9018, page_per_skb=True)
    assert users_stack(case, plain) == (Nbd(), Tcp(), nic)
    assert users_stack(case, full) == (
        Crypt(), Mirror(legs=2), Connections(count=3), Iscsi(unasked_messages=2), Tcp(), nic,
    )  # fmt: skip


def test_the_design_says_whether_the_ring_and_the_acknowledgements_count() -> None:
    case = case_of(User())
    assert users_stack(case, case.user[0], whole_ring=False, acks=False) == (
        Nbd(), Tcp(acks=False), Nic(ring=64, whole_ring=False),
    )  # fmt: skip
    more, less = capacity_needed(case), capacity_needed(case, whole_ring=False, acks=False)
    assert more - less == 63 + 1  # all slots but one, one acknowledgement of ours


def test_a_driver_that_copies_takes_no_ring_from_the_reserve() -> None:
    assert ring_need(case_of(User(), nic=CaseNic(driver=Driver.COPY))).total_pages == 1
    assert ring_need(case_of(User(), nic=CaseNic(driver=Driver.EMPTY))).total_pages == 64


@pytest.mark.parametrize(
    ("per_s", "rcvbuf_bytes", "messages"),
    [(0, 262_144, 0), (1, 262_144, 1), (5, 262_144, 1), (6, 262_144, 2), (100_000, 262_144, 129)],
)
def test_unasked_messages_are_what_piles_up_behind_a_hole(
    per_s: int, rcvbuf_bytes: int, messages: int
) -> None:
    user = User(transport="iscsi", unasked_per_s=per_s, rcvbuf_bytes=rcvbuf_bytes)
    assert users_stack(case_of(user), user)[0] == Iscsi(unasked_messages=messages)


def test_the_largest_need_looks_at_reads_only_where_there_are_some() -> None:
    assert largest_need(NBD, User(request_pages=1, readahead_pages=8)) == stack_need(NBD, write(1))
    reading = User(request_pages=1, readahead_pages=8, reads_percent=10)
    assert largest_need(NBD, reading) == stack_need(NBD, read(8))
    writing = User(request_pages=32, readahead_pages=8, reads_percent=10)
    assert largest_need(NBD, writing) == stack_need(NBD, write(32))


def test_the_capacity_is_the_ring_and_for_each_user_its_fixed_part_and_one_largest_request() -> None:
    one, two = User(name="one", request_pages=4), User(name="two", mirror=2)
    ring, connection = 64, 3  # an acknowledgement of ours and two frames
    assert capacity_needed(case_of(one)) == ring + connection + (4 + 1 + 1)
    assert capacity_needed(case_of(one, two)) == (
        ring + connection + (4 + 1 + 1) + 2 * connection + 2 * (1 + 1 + 1)
    )
