"""What one client, or all together, can make the server keep: pipelined requests, connections, bodies."""

import json
import socket

import pytest


@pytest.fixture(scope="module")
def server(start, counting):
    limits = json.dumps({"max_connections": 5, "max_held": 1 << 20, "max_text": 1 << 20, "max_body": 1 << 20})
    return start("--model", counting, EDGEFLEET_LIMITS=limits, EDGEFLEET_SETTINGS='{"score_timeout_ms": 2000}').ready()


def plain(server):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(server.socket))
    return client


def test_pipelined_requests(server):
    """Of requests that are sent without waiting no more is read while one runs: the client's sending stops."""
    with plain(server) as client:
        slow = json.dumps({"times": 10**12, "x": 1}).encode()
        head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(slow)
        client.sendall(head + slow)
        client.settimeout(1)
        follow, sent = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2000, 0
        try:
            while sent < 64 << 20:
                sent += client.send(follow)
        except TimeoutError:
            pass
        assert sent < 1 << 20


def test_connections(server):
    """One connection more than may be is told to come again; those that are there go on."""
    server.until(lambda: b"_connections 1\n" in server.ask("/metrics").body, "being alone")
    clients = [plain(server) for _ in range(5)]
    try:
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        with plain(server) as more:
            assert more.recv(1000).startswith(b"HTTP/1.1 503 ")
            assert more.recv(1000) == b""
        clients[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert clients[0].recv(1000).startswith(b"HTTP/1.1 200 ")
    finally:
        for client in clients:
            client.close()


def test_bodies_that_run_are_counted(server):
    """A body counts until its answer is there, so requests that run and those that come share one bound."""
    body = json.dumps({"times": 10**12, "x": 1}).encode() + b" " * (900 << 10)
    reply = server.later(body=body)
    server.until(lambda: f"held_bytes {len(body)}\n".encode() in server.ask("/metrics").body, "holding the body")
    refused = server.ask(body=b" " * (300 << 10))
    assert (refused.status, "fill the memory" in refused.json["message"]) == (429, True)
    assert reply().status == 500
    server.until(lambda: b"held_bytes 0\n" in server.ask("/metrics").body, "letting go")


def test_bodies_without_a_length_are_counted_as_they_come(server):
    """What comes in chunks fills the same bound, and what would not fit beside it is refused before its end."""
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (300 << 10, b" " * (300 << 10))
    with plain(server) as first, plain(server) as second:
        first.sendall(head + chunk * 3)
        held = f"held_bytes {900 << 10}\n".encode()
        server.until(lambda: held in server.ask("/metrics").body, "holding the chunks")
        second.sendall(head + chunk)
        assert second.recv(1000).startswith(b"HTTP/1.1 429 ")
    server.until(lambda: b"held_bytes 0\n" in server.ask("/metrics").body, "letting go")
