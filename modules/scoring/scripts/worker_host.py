"""The program of a worker process: it loads an entry script and answers one request after another.

It is started by its path and imports nothing of edgefleet, so that a user's folder called ``modules`` is no clash;
its parts stand in ``shims/edgefleet_worker``. It talks to the server over a socket in frames: 4 bytes length of
a JSON head, 8 bytes length of a body (both big-endian), head, body.

The server first sends its configuration; the host answers ``ready`` or ``failed``, then an ``answer`` to each
``request``. An answer with ``stream`` has no body: each ``more`` of the server brings a ``part``, at last ``end`` or
``broken``; ``stop`` ends it early. The host ends when the socket does. Exit code 3: the script cannot be served.
"""

import ctypes
import faulthandler
import os
import pathlib
import signal
import socket
import sys

CANNOT_SERVE = 3
PR_SET_PDEATHSIG = 1


def main() -> int:
    # A server killed without warning must not leave its worker behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    faulthandler.enable()
    # New secrets, which a script may want to know of: it has not asked for it until it sets a handler of its own.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.path.insert(0, str(pathlib.Path(__file__).with_name("shims")))
    from edgefleet_worker.entry import CannotServe, Entry  # noqa: PLC0415 - found since the line above
    from edgefleet_worker.frames import Channel  # noqa: PLC0415
    from edgefleet_worker.imports import Import, Sessions  # noqa: PLC0415
    from edgefleet_worker.request_log import Streams  # noqa: PLC0415
    from edgefleet_worker.serving import Service  # noqa: PLC0415

    server = socket.socket(fileno=int(sys.argv[1]))
    channel = Channel(server.makefile("rb"), server.makefile("wb"))
    told, _ = next(iter(channel))
    sys.path.insert(0, told["source"])
    _settle(told["script"], told["source"])
    sessions = Sessions(told["threads"], told["providers"])
    sys.meta_path.insert(0, Import(told["source"], sessions))
    streams = Streams(level=told["log_level"], structured=told["structured_log"])
    try:
        entry = Entry(told["script"])
    except CannotServe as error:
        streams.end()
        channel.send({"kind": "failed", "message": str(error)})
        return CANNOT_SERVE
    streams.end()
    Service(entry, channel, streams, sessions).serve()
    return 0


def _settle(script: str, source: str) -> None:
    """What scripts know of Azure ML's server: its variables, the application's root on the path; no arguments."""
    os.environ["AZUREML_ENTRY_SCRIPT"] = script
    os.environ["EDGEFLEET_SCRIPT_SOURCE"] = source  # for entry_module.py
    root = os.environ.setdefault("AML_APP_ROOT", source)
    if root not in sys.path:
        sys.path.append(root)
    sys.argv[:] = [script]


if __name__ == "__main__":
    sys.exit(main())
