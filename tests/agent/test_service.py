"""Talking to systemd, and to sockets that do not answer as they should."""

import asyncio
import socket

import pytest

from agent.service import notify, watchdog
from tests.doubles.clock import VirtualClock


@pytest.fixture
def manager(folder, monkeypatch):
    """A service manager that listens for messages."""
    path = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(path)
        channel.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield channel


def test_the_manager_is_told(manager):
    """A message arrives as it was sent."""
    notify("READY=1")

    assert manager.recv(100) == b"READY=1"


def test_without_a_manager_nothing_happens(monkeypatch):
    """Started by hand, the agent notifies nobody."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


def test_a_manager_on_an_abstract_socket_is_told(monkeypatch):
    """systemd may name a socket that is no file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("\0edgefleet-test-notify")
        monkeypatch.setenv("NOTIFY_SOCKET", "@edgefleet-test-notify")
        notify("READY=1")

        assert channel.recv(100) == b"READY=1"


async def test_the_watchdog_is_fed_only_while_the_loop_goes_round(manager, monkeypatch):
    """No pass since the last time, no message: the manager then restarts the agent."""
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    passes = iter([1, 1, 1, 1, 1, 2, 2])
    last = 2

    def count():
        return next(passes, last)

    clock = VirtualClock()
    task = asyncio.create_task(watchdog(count, clock))
    for _ in range(50):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    manager.settimeout(0)
    fed = 0
    while True:
        try:
            assert manager.recv(100) == b"WATCHDOG=1"
            fed += 1
        except BlockingIOError:
            break
    assert fed == 2


async def test_without_a_watchdog_the_task_ends(monkeypatch):
    """Where systemd watches nothing, nothing is fed."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    await watchdog(lambda: 1, VirtualClock())
