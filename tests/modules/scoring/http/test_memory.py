"""What clients send never takes more memory than the server was granted: it is refused before it is read."""

import os
import re
import threading
from pathlib import Path

import pytest

from modules.bodies import text_length
from modules.scoring.http.weights import nested
from modules.scoring.settings import Limits, fitting
from tests.modules.scoring.conftest import ROOT

GRANTED = 128 << 20
ROW = "[" + ",".join(["0.123456"] * 64) + "]"
RAW = {"content-type": "application/octet-stream"}


def of(length, part, end="]}"):
    """A body of ``length`` bytes that repeats a part as often as it goes."""
    return ('{"data": [' + ",".join([part] * (length // (len(part) + 1))) + end).encode()


@pytest.fixture(scope="module")
def small():
    """A command that runs another one in a cgroup of 128 MiB without swap."""
    first = Path("/sys/fs/cgroup/memory")
    folder = (first if first.exists() else first.parent) / f"edgefleet-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        for name in ("memory.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
            if (folder / name).exists():
                (folder / name).write_text(str(GRANTED))
        if (folder / "memory.swap.max").exists():
            (folder / "memory.swap.max").write_text("0")
        yield ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(folder / "cgroup.procs")]
    finally:
        folder.rmdir()


@pytest.fixture(scope="module")
def server(small, start, digits):
    return start("--model", digits, through=small).ready()


@pytest.fixture(scope="module")
def digits():
    return ROOT / "modules/examples/digits/digits.onnx"


def largest(server):
    """The largest body of JSON that this server says it takes."""
    refused = server.ask(body=of(34 << 20, ROW))
    assert refused.status == 413
    return int(re.search(r"larger than (\d+) bytes", refused.json["message"])[1])


def test_a_body_that_would_end_the_server(server):
    """34 MB of JSON for a server of 128 MiB are refused, and the size that is allowed is said; a chunked body too."""
    assert largest(server) == 2 << 20
    chunks = server.ask(body=iter([of(4 << 20, ROW)]), method="POST")
    assert chunks.status == 413
    assert server.ask("/").status == 200


@pytest.mark.parametrize("part", ["[0.5]", "[]", "{}", "1", "1.5", '"a"', '{"a":1}', "[[1,2]]", "null", ROW])
def test_the_worst_bodies_at_once(server, part):
    """The largest bodies that are taken, of whatever is worst to read, sixteen at once, do not end the server."""
    body = of(largest(server), part)
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(server.ask(body=body).status)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 16
    assert set(statuses) <= {200, 400, 413, 429}
    assert server.process.poll() is None


def test_bytes_may_be_larger(server):
    """Bytes are used as they came: more of them than of JSON are taken."""
    count = (4 << 20) // 256
    reply = server.ask(body=bytes(count * 256), headers=RAW)
    assert reply.status == 200
    assert len(reply.json["label"]) == count
    assert server.ask(body=bytes(16 << 20), headers=RAW).status == 413


def test_small_bodies_count_together(start, relu):
    """Bodies are counted together however small: with no room left for one more it is told to come again."""
    server = start("--model", relu, EDGEFLEET_LIMITS='{"max_body": 1000, "max_text": 1000, "max_held": 1000}').ready()
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 600\r\n\r\n"
    first, second = server.connect(), server.connect()
    for one in (first, second):
        one.connect()
    first.sock.sendall(head)
    server.until(lambda: b"held_bytes 600\n" in server.ask("/metrics").body, "holding the first")
    second.sock.sendall(head)
    assert second.sock.recv(1000).startswith(b"HTTP/1.1 429 ")
    first.close()
    server.until(lambda: b"held_bytes 0\n" in server.ask("/metrics").body, "letting go")
    second.close()


def test_limits_follow_the_memory():
    """The built-in limits are the largest; a server of little memory has smaller ones, and never none."""
    assert fitting(None) == fitting(1 << 40) == Limits()
    assert fitting(GRANTED) == Limits(max_body=8 << 20, max_text=2 << 20, max_held=16 << 20, max_connections=256)
    assert min(fitting(1).max_body, fitting(1).max_text, fitting(1).max_connections) == 1


def test_what_is_read_as_text():
    """Of a body with tensors behind it the JSON counts, of bytes and pictures nothing, of anything else all."""
    assert text_length([], 10) == text_length([(b"content-type", b"text/csv")], 10) == 10
    assert text_length([(b"content-type", b"application/octet-stream")], 10) == 0
    assert text_length([(b"content-type", b"image/png")], 10) == 0
    length = (b"inference-header-content-length", b"4")
    assert text_length([length, (b"content-type", b"application/octet-stream")], 10) == 4
    assert text_length([(b"inference-header-content-length", b"9" * 5000)], 10) == 10
    assert nested(b"[[{}]]", 6) == 3 * nested(b"[]", 2)
    assert nested(b"[[{}]]", 2) == nested(b"[[", 2)
