"""Talking to systemd, and to sockets that do not answer as they should."""

import asyncio
import http.client
import socket
import threading

import pytest

from agent import unix_http
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


@pytest.fixture
def peer(folder):
    """Answers one connection with the bytes that it is given."""
    path = str(folder / "peer")
    answers = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answers[0])

        thread = threading.Thread(target=serve)
        thread.start()
        yield path, answers
        with socket.socket(socket.AF_UNIX) as one:  # so that it ends where the test did not ask
            one.connect(path)
        thread.join(5)


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + b"x" * 9])
def test_an_answer_that_is_none_or_too_long_is_refused(peer, answer):
    """No HTTP, or more bytes than allowed: an error of http.client."""
    path, answers = peer
    answers.append(answer)
    with pytest.raises(http.client.HTTPException):
        unix_http.request(path, "GET", "/", timeout=2, limit=8)
