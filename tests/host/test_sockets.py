"""Whose a socket is."""

from __future__ import annotations

from tests.host.made import SERVER, nbd_swap_host, tcp

from tidegate.host.processes import Processes
from tidegate.host.reading import Reading
from tidegate.host.sockets import sockets_of


def test_a_socket_without_inode_is_not_the_kernels() -> None:
    made = nbd_swap_host()
    tcp(made, 50001, SERVER, 6000, 0)
    tcp(made, 50002, SERVER, 6000, 4321)
    reading = Reading(made.record())
    processes = Processes(reading)
    assert processes.complete
    known = {one.inode: (one.owners_known, one.pids) for one in sockets_of(reading, processes, {})}
    assert known[0] == (False, ())
    assert known[4321] == (True, ())
