"""Talking to systemd: ready, status and watchdog, in the few lines that its protocol needs (sd_notify(3))."""

import os
import socket
from collections.abc import Callable
from typing import Final

from agent.clock import Clock

_LOOKS: Final = 6


def notify(message: str) -> None:
    """Tell the service manager; does nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(message.encode(), "\0" + address[1:] if address[0] == "@" else address)


async def watchdog(passes: Callable[[], int], clock: Clock) -> None:
    """Feed the watchdog as long as the loop goes round; a stuck loop is killed and restarted by systemd."""
    # Looked at often, so that a pass of half that time is not missed by a moment and waited for twice.
    period = int(os.environ.get("WATCHDOG_USEC", "0")) / _LOOKS / 1_000_000
    if not period:
        return
    last = -1
    while True:
        if passes() != last:
            last = passes()
            notify("WATCHDOG=1")
        await clock.sleep(period)
