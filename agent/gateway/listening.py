"""Where the gateway listens, and how it says so: systemd's socket or an address of its own."""

import os
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from modules.errors import BadSettings

_FIRST_PASSED: Final = 3


def passed_socket(environment: MutableMapping[str, str]) -> socket.socket | None:
    """The listening socket that systemd holds for this process, or None.

    The variables are removed, because they are meant for this process alone.

    Raises:
        BadSettings: systemd passed several; the gateway has one address.
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        return None
    if int(count) > 1:
        raise BadSettings(
            f"systemd passes {count} sockets",
            element="edgefleet-gateway.socket",
            remedy="leave one ListenStream= in it and its drop-ins",
        )
    listener = socket.socket(fileno=_FIRST_PASSED)
    listener.set_inheritable(False)
    return listener


def own_socket(address: str) -> socket.socket:
    """Listen on ``host:port``; port 0 is a free one.

    Raises:
        BadSettings: it is no address, or none that can be had.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise BadSettings(f"{address!r} is no address", element="--listen", remedy="write host:port, as 127.0.0.1:8700")
    host = host.strip("[]")
    try:
        return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise BadSettings(
            f"cannot listen on {address}: {error}",
            element="--listen",
            remedy="choose another port, or stop what listens there",
        ) from error


def bound_address(listener: socket.socket) -> str:
    """``host:port`` as it really is."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def write_ready_file(path: Path, address: str) -> None:
    """Tell whoever started this process where it listens; the file appears whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(address + "\n")
    draft.replace(path)


def notify(state: str, environment: MutableMapping[str, str]) -> None:
    """Send ``READY=1`` and the like to systemd; does nothing where it did not ask for it."""
    path = environment.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # A leading @ stands for the abstract namespace's zero byte.
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        notifier.sendto(state.encode(), address)
