"""Peer process of a Unix socket's connection: whose connections and regions share what there is."""

from __future__ import annotations

import socket
import struct
from collections.abc import Hashable, Sequence

from lossd_server.admission.fair_share import within

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def process_of(connection: socket.socket) -> Hashable:
    """The client's process, by the kernel's word; the connection where that is in a container that is not seen here."""
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, _, _ = _CREDENTIALS.unpack(said)
    return pid or connection


def no_place(process: Hashable, taken: Sequence[Hashable], most: int) -> str:
    """Why a process may have no further connection, where those of `taken` have one each; "" where it may."""
    own, count = sum(one == process for one in taken), len(taken)
    if count >= most or (own and not within(own, count - own, most)):
        return (
            f"the server shares memory with {count} connections already, of at most {most}; {own} are of this process,"
            " which may have three quarters of what others leave"
        )
    return ""
