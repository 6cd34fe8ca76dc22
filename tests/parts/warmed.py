"""``python -m tests.parts.warmed SOCKET PROGRAM MODULES``: import a program, and fork it whenever that is asked for."""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

_MESSAGE = 1 << 17


def serve(asked: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; returns in what was forked, with the request, and at the end with nothing."""
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([asked, woken], [], [])
        if woken in ready:
            with suppress(BlockingIOError):
                os.read(woken, 4096)
            _tell_the_ended(asked)
        if asked not in ready:
            continue
        data, streams, _, _ = socket.recv_fds(asked, _MESSAGE, 2)
        if not data:
            return None
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (woken, wakes):
                os.close(descriptor)
            asked.close()
            return {**json.loads(data), "streams": streams}
        for stream in streams:
            os.close(stream)
        asked.send(json.dumps({"started": pid}).encode())


def _tell_the_ended(asked: socket.socket) -> None:
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = found
            asked.send(json.dumps({"ended": pid, "status": os.waitstatus_to_exitcode(status)}).encode())


def become(program: str, request: dict[str, Any]) -> None:
    """Run the program as a new Python would."""
    for number, stream in enumerate(request["streams"], start=1):
        os.dup2(stream, number)
        os.close(stream)
    environment = request["environment"]
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    time.tzset()
    sys.orig_argv[:] = [sys.executable, "-m", program, *request["arguments"]]
    sys.argv[:] = ["", *request["arguments"]]  # its own name is filled in by run_module
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def main() -> None:
    number, program, *modules = sys.argv[1:]
    asked = socket.socket(fileno=int(number))
    for module in (f"{program}.__main__", *modules):
        importlib.import_module(module)
    del sys.modules[f"{program}.__main__"]  # or runpy would warn of it
    assert threading.active_count() == 1, "what has threads cannot be forked"
    gc.collect()
    gc.freeze()
    if request := serve(asked):
        become(program, request)


main()
