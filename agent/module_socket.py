"""The way to a module's socket, without believing anything that the module could have put there instead.

The folder of the socket is the agent's, and what lies in it is the module's. So nothing in it is followed: the folder
is opened, then the name in it as what it is and not as what it points to; only a socket is connected to, by its open
descriptor (``/proc/self/fd``), and only a peer with the module's or the agent's own user id is spoken with. Else a
symlink to the engine's socket would make its module root on the host.

The gateway connects the same way, so this file imports nothing but the standard library.
"""

import asyncio
import os
import socket
import stat
import struct
from contextlib import ExitStack
from typing import Final

# The user of every module's container (agent/engines/docker_spec.py).
MODULE_UID: Final = 10001
_CREDENTIALS: Final = struct.Struct("3i")
# A full backlog lets a connect fail at once; asyncio would take it for a connection.
_AGAIN_S: Final = 0.01


class NotAModule(OSError):
    """What stands at the socket's place is not the socket of a module."""


async def connect(path: str) -> socket.socket:
    """Connect to the module whose socket is at ``path``; the caller sets a time limit and closes it.

    Raises:
        NotAModule: something else stands there, or somebody else listens.
        OSError: nothing is there, or nothing listens.
    """
    while True:
        try:
            return _connected(path)
        except BlockingIOError:
            await asyncio.sleep(_AGAIN_S)


def _connected(path: str) -> socket.socket:
    folder, _, name = path.rpartition("/")
    with ExitStack() as opened:
        at = _open(opened, folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        target = _open(opened, name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, at)
        if not stat.S_ISSOCK(os.fstat(target).st_mode):
            raise NotAModule(f"{path} is not a socket")
        allowed = {MODULE_UID, os.fstat(at).st_uid}
        connection = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        connection.settimeout(0)
        connection.connect(f"/proc/self/fd/{target}")
        uid = peer_uid(connection)
        if uid not in allowed:
            raise NotAModule(f"user {uid} listens at {path}, not a module")
        return socket.socket(fileno=connection.detach())


def _open(opened: ExitStack, path: str, flags: int, at: int | None = None) -> int:
    descriptor = os.open(path, flags, dir_fd=at)
    opened.callback(os.close, descriptor)
    return descriptor


def peer_uid(connection: socket.socket) -> int:
    """The user id under which the peer began to listen (``SO_PEERCRED``, unix(7))."""
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
