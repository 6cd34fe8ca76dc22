"""A closed loop of connections that post one body: by wrk where it is installed, else by this file as a program."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LUA = """
local file = assert(io.open("{body}", "rb"))
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "{kind}"
done = function(summary)
  io.write(string.format('DONE{{"requests":%d,"us":%d,"failed":%d}}', summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write))
end
"""


def generator():
    return "wrk" if shutil.which("wrk") else "python"


def rate(port, path, body, kind, *, connections, seconds):
    """Answers of 200 a second.

    Raises:
        RuntimeError: an answer was another one.
    """
    if generator() == "wrk":
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(LUA.format(body=body, kind=kind))
            script.flush()
            url = f"http://127.0.0.1:{port}{path}"
            command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "15s", "-s", script.name, url]
            text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
        found = json.loads(re.search(r"DONE({.*})", text)[1])
        if found["failed"]:
            raise RuntimeError(f"{path}: {text}")
        return found["requests"] / found["us"] * 1e6
    command = [sys.executable, __file__, str(port), path, str(body), kind, str(connections), str(seconds)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout)


class Client(asyncio.Protocol):
    """Posts again as soon as an answer is complete; answers have a Content-Length, or end their connection."""

    def __init__(self, request, done, again):
        self.request, self.done, self.again = request, done, again

    def connection_made(self, transport):
        self.transport, self.seen = transport, b""
        transport.write(self.request)

    def data_received(self, data):
        self.seen += data
        head, empty, body = self.seen.partition(b"\r\n\r\n")
        if not empty:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if length and len(body) >= int(length[1]):
            self.done()
            self.seen = b""
            if b"connection: close" in head.lower():
                self.transport.close()
            else:
                self.transport.write(self.request)

    def connection_lost(self, exc):
        self.again()


async def closed_loop(port, request, connections, seconds):
    loop, count = asyncio.get_running_loop(), 0
    tasks = set()

    def done():
        nonlocal count
        count += 1

    def again():
        task = loop.create_task(loop.create_connection(lambda: Client(request, done, again), "127.0.0.1", port))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for _ in range(connections):
        again()
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    return count / (time.perf_counter() - started)


def main():
    port, path, file, kind, connections, seconds = sys.argv[1:]
    body = Path(file).read_bytes()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    print(asyncio.run(closed_loop(int(port), head.encode() + body, int(connections), float(seconds))))


if __name__ == "__main__":
    main()
