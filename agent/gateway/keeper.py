"""``python -m agent.gateway.keeper``: holds the port of an endpoint, so that its gateways come and go without a gap.

It accepts nobody. Whoever reaches its Unix socket, in a folder that only gateways have, gets the listening socket
itself, as systemd gives one to a gateway on a device: all of them accept from one queue, so what comes while one goes
waits there for the next. It keeps each connection to itself open; by its end a gateway knows that the port went with
the keeper, and takes the new one's.
"""

import argparse
import asyncio
import contextlib
import logging
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final

from agent.gateway.listening import bound_address, own_socket
from modules import program
from modules.words import log_lines

logger = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_AGAIN_S: Final = 0.5
_WITHIN_S: Final = 5.0


class Held:
    """The listening socket as a gateway has it.

    Args:
        path: the keeper's Unix socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._way: socket.socket | None = None

    async def take(self) -> socket.socket:
        """The listening socket of the keeper that is there now, once there is one."""
        while True:
            try:
                return await asyncio.to_thread(self._taken)
            except OSError as error:
                logger.info("nobody gives a listening socket at %s yet: %s", self._path, error)
            await asyncio.sleep(_AGAIN_S)

    async def lost(self) -> None:
        """Wait until the keeper is gone, and with it the port."""
        assert self._way is not None  # noqa: S101 - for mypy: it was taken
        self._way.settimeout(0)
        with self._way, contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_recv(self._way, 1)

    def _taken(self) -> socket.socket:
        with contextlib.ExitStack() as failing:
            way = failing.enter_context(socket.socket(socket.AF_UNIX))
            way.settimeout(_WITHIN_S)
            way.connect(str(self._path))
            _, given, _, _ = socket.recv_fds(way, 1, 1)
            if given:
                failing.pop_all()
                self._way = way
                return socket.socket(fileno=given[0])
        raise ConnectionError("it hung up")


def keep(listener: socket.socket, way: socket.socket) -> None:
    """Give the listening socket to everybody who comes, until the program is told to stop."""
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as gateways:
        selector.register(way, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not way:
                    # Gateways say nothing: it hung up.
                    selector.unregister(key.fileobj)
                    key.data.close()
                    continue
                gateway, _ = way.accept()
                try:
                    socket.send_fds(gateway, [b"\n"], [listener.fileno()])
                except OSError:
                    gateway.close()
                    continue
                gateways.callback(gateway.close)
                selector.register(gateway, selectors.EVENT_READ, gateway)


def main(argv: list[str] | None = None) -> int:
    """Hold the port until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m agent.gateway.keeper", description=__doc__)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--give", required=True, type=Path, metavar="FILE", help="the Unix socket for gateways")
    parser.add_argument(
        "--stay-s", type=float, default=0, metavar="N",
        help="stay so long once told to stop, for connections that were made go with it",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    log_lines(logging.INFO, "%(levelname)s %(name)s: %(message)s")
    # The first program of a container has no end by a signal unless it says so.
    signal.signal(signal.SIGTERM, _stop)
    try:
        _hold(arguments.listen, arguments.give)
    except SystemExit:
        time.sleep(arguments.stay_s)
    return 0


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def _hold(listen: str, give: Path) -> None:
    with own_socket(listen) as listener, socket.socket(socket.AF_UNIX) as way:
        listener.listen(_BACKLOG)
        # A predecessor that was killed left its own there; where one still is, gateways come here from now on.
        give.unlink(missing_ok=True)
        way.bind(str(give))
        give.chmod(0o600)
        way.listen(_BACKLOG)
        logger.info("holds %s for gateways", bound_address(listener))
        keep(listener, way)


if __name__ == "__main__":
    program.run("edgefleet-gateway", main)
