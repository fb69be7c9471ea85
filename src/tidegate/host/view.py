"""A host's facts in the shape that results print."""

from __future__ import annotations

from tidegate.host.facts import BlockUser, Host, Socket
from tidegate.result import Evidence, HostView, SocketView, UserView


def host_view(host: Host) -> HostView:
    """The head of a result."""
    return HostView(
        name=host.name,
        kernel=host.kernel.release,
        taken=host.taken,
        source=host.source,
        memory_kib=host.memory.total_kib if host.memory else None,
        page_bytes=host.page_bytes,
        cpus=host.cpus,
    )


def user_view(user: BlockUser) -> UserView:
    """One block user; its NIC and driver are those of the first route that has one."""
    nic = next((link for link in user.chain if link.kind == "nic"), None)
    return UserView(
        name=user.name,
        kind=user.kind.value,
        transport=user.transport.value,
        chain=user.chain,
        sockets=tuple(_socket_view(one) for one in user.sockets),
        nic=nic.name if nic else "",
        driver=nic.detail if nic else "",
        note=_note(user),
    )


def _socket_view(socket: Socket) -> SocketView:
    locked = (socket.sndbuf_locked, socket.rcvbuf_locked)
    held = [size for size in (socket.rmem_bytes, socket.wmem_bytes, socket.fwd_bytes) if size is not None]
    return SocketView(
        local=f"{socket.local}:{socket.local_port}",
        remote=f"{socket.remote}:{socket.remote_port}",
        sndbuf_bytes=socket.sndbuf_bytes,
        rcvbuf_bytes=socket.rcvbuf_bytes,
        capped=None if None in locked else all(locked),
        held_bytes=sum(held) if held else None,
        evidence=(Evidence(source=socket.evidence, value=f"inode {socket.inode}"),),
    )


def _note(user: BlockUser) -> str:
    notes = []
    if user.server_local:
        notes.append("its server runs on this machine")
    if user.userspace:
        notes.append(f"served by {', '.join(user.userspace)}")
    if user.front:
        notes.append(f"{', '.join(user.front)} in front")
    if user.legs > 1:
        notes.append(f"each request reaches it {user.legs} times")
    return "; ".join(notes)
