"""The far side of a trial's wire: a network namespace of its own with the server in it, the relay, the storm's sender.

    python -m tidegate.rig.far_side        (in a new network namespace; see `wire.far_side`)

Nothing that it sends can leave this machine: the namespace has no other link than the tap whose other end is the
guest. It needs no root, since a user may make a user namespace and be root in there. Orders come as JSON lines on
standard input, the first of them the Far; answers and events go out the same way. At the end of its input it ends
all that it started.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tidegate.errors import Lacking, TidegateError
from tidegate.rig.relay import Relay, Wire
from tidegate.rig.servers import end, iscsi_target, nbd_server, qemu_nbd_server
from tidegate.rig.tools import call, program

GUEST, SERVER = "10.99.0.1", "10.99.0.2"
GUEST_MAC, SERVER_MAC = "52:54:00:12:34:56", "52:54:00:99:00:02"
PORTS = {"nbd": 10809, "qemu-nbd": 10809, "iscsi": 3260, "nvme-tcp": 4420, "nfs": 2049, "nfs-mount": 2049}
# These servers are a kernel's: they run in a guest of their own, on the same wire (storage_guest.py).
STORAGE, STORAGE_MAC = "10.99.0.3", "52:54:00:99:00:03"
IN_A_GUEST = ("nvme-tcp", "nfs", "nfs-mount")
STORAGE_FOLDER = "storage"  # of that guest, below the far side's folder
_TAP = "wire"
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_PR_SET_PDEATHSIG = 1


class Far(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted on the far side."""

    folder: str  # for sockets and logs
    transport: str  # one of PORTS
    size_mib: int
    agent: str  # the storm's sender
    seed: int = 0
    wire: Wire = Wire()


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: flood, calm, server_is (with a process id), stop_server, go_on_server, kill_server, reset, stats,
    capture.
    """

    do: str
    words: tuple[str, ...] = ()
    path: str = ""


@dataclass(slots=True)
class _State:
    far: Far
    relay: Relay
    server: int  # its process; 0: not started yet
    floods: list[subprocess.Popen[bytes]] = field(default_factory=list)
    unheard: list[subprocess.Popen[bytes]] = field(default_factory=list)  # whose output nobody waits for yet


def main() -> int:
    """Obeys until its input ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for who started this
    os.set_blocking(0, False)
    source = _Lines()
    try:
        far = msgspec.json.decode(source.wait(), type=Far)
        with contextlib.ExitStack() as running:
            tap = _tap()
            server, storage = 0, None
            if far.transport in IN_A_GUEST:
                storage = (
                    bytes.fromhex(STORAGE_MAC.replace(":", "")),
                    _far_socket(Path(far.folder) / STORAGE_FOLDER),
                )
            else:
                server = running.enter_context(_server(far)).pid
            guest = _far_socket(Path(far.folder))
            relay = Relay(far.wire, tap, guest, PORTS[far.transport], far.seed, storage)
            state = _State(far=far, relay=relay, server=server)
            running.callback(_calm, state)
            _tell(event="ready")
            _loop(state, source)
    except TidegateError as trouble:
        _tell(event="no", reason=str(trouble))
        return trouble.exit
    return 0


def _tell(**facts: object) -> None:
    os.write(1, msgspec.json.encode(facts) + b"\n")


class _Lines:
    """Lines of standard input as they come."""

    def __init__(self) -> None:
        self.held = b""
        self.ended = False

    def read(self) -> list[bytes]:
        with contextlib.suppress(BlockingIOError):
            data = os.read(0, 65536)
            self.ended = not data
            self.held += data
        *lines, self.held = self.held.split(b"\n")
        return lines

    def wait(self) -> bytes:
        lines: list[bytes] = []
        with selectors.DefaultSelector() as waiting:
            waiting.register(0, selectors.EVENT_READ)
            while not lines and not self.ended:
                waiting.select()
                lines = self.read()
        if not lines:
            raise Lacking("far side: no order came")
        return lines[0]


def _tap() -> int:
    """The near end of a tap; its far end has the server's address. Neighbours are permanent on both sides."""
    try:
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", _TAP.encode(), _IFF_TAP | _IFF_NO_PI))
    except OSError as trouble:
        raise Lacking(
            f"/dev/net/tun: {trouble.strerror}; the wire needs a tap in a namespace of its own"
        ) from None
    batch = (
        f"link set lo up\nlink set {_TAP} address {SERVER_MAC} mtu 1500 txqueuelen 1000 up\n"
        f"address add {SERVER}/24 dev {_TAP}\n"
        f"neighbour add {GUEST} lladdr {GUEST_MAC} nud permanent dev {_TAP}\n"
    )
    call(["ip", "-batch", "-"], timeout_s=20, stdin=batch.encode())
    return tap


def _far_socket(folder: Path) -> socket.socket:
    """The socket that QEMU's `-netdev dgram` talks to; it gets its own end when it starts."""
    guest = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    folder.mkdir(exist_ok=True)
    path = folder / "far.sock"
    path.unlink(missing_ok=True)
    guest.bind(str(path))
    return guest


def _server(far: Far) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    folder = Path(far.folder)
    log, port = folder / "server.log", PORTS[far.transport]
    if far.transport == "nbd":
        return nbd_server(SERVER, port, far.size_mib, log)
    if far.transport == "qemu-nbd":
        return qemu_nbd_server(SERVER, port, far.size_mib, folder, log)
    return iscsi_target(SERVER, port, far.size_mib, folder, log)


def _loop(state: _State, source: _Lines) -> None:
    relay = state.relay
    plugs = {"guest": relay.guest} | ({"storage": relay.storage} if relay.storage else {})
    work = {"tap": relay.from_tap, "guest": relay.from_guest, "storage": relay.from_storage}
    with selectors.DefaultSelector() as waiting:
        waiting.register(0, selectors.EVENT_READ, "orders")
        waiting.register(relay.tap, selectors.EVENT_READ, "tap")
        for name, plug in plugs.items():
            waiting.register(plug.socket, selectors.EVENT_READ, name)
        watching = dict.fromkeys(plugs, selectors.EVENT_READ)
        while not source.ended:
            for key, _ in waiting.select(relay.wait_s()):
                if key.data == "orders":
                    for line in source.read():
                        _obey(state, msgspec.json.decode(line, type=Order))
                elif key.data in work:
                    work[key.data]()
                else:
                    _flood_said(waiting, key.fileobj)
            relay.due()
            for name, plug in plugs.items():
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if plug.blocked else 0)
                if wanted != watching[name]:
                    waiting.modify(plug.socket, wanted, name)
                    watching[name] = wanted
            for flood in state.unheard:
                assert flood.stdout is not None
                waiting.register(flood.stdout, selectors.EVENT_READ, "flood")
            state.unheard.clear()


def _flood_said(waiting: selectors.BaseSelector, stream: object) -> None:
    data = os.read(stream.fileno(), 4096)  # type: ignore[attr-defined]
    if not data:
        waiting.unregister(stream)  # type: ignore[arg-type]
        stream.close()  # type: ignore[attr-defined]
    for line in data.decode(errors="replace").splitlines():
        _tell(event="flood", said=line)


def _obey(state: _State, order: Order) -> None:
    if order.do == "flood":
        words = [state.far.agent, "flood", *order.words]
        flood = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: S603
        state.floods.append(flood)
        state.unheard.append(flood)
    elif order.do == "calm":
        _calm(state)
    elif order.do == "server_is":
        state.server = int(order.words[0])
    elif order.do in _SIGNALS and state.server:
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.server, _SIGNALS[order.do])
    elif order.do == "reset":
        state.relay.reset_block_connection()
    elif order.do == "capture":
        state.relay.write_capture(Path(order.path))
    _tell(event="did", did=order.do, stats=state.relay.stats(), server=_process_state(state.server))


_SIGNALS = {"stop_server": signal.SIGSTOP, "go_on_server": signal.SIGCONT, "kill_server": signal.SIGKILL}


def _process_state(pid: int) -> str:
    """R, S, T (stopped) ... of the server's process; empty when it has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
    return "" if state == "Z" else state


def _calm(state: _State) -> None:
    for flood in state.floods:
        end(flood)


if __name__ == "__main__":
    program("ip")
    sys.exit(main())
