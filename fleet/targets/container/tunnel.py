"""An engine behind SSH, as a Unix socket of this machine: one ssh for each connection, which ends when that does.

Docker's library waits for its ssh without a limit, and needs a second implementation of SSH besides. To a socket its
usual limits apply, and an ssh that hangs goes with the connection that was given up.
"""

import contextlib
import select
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from modules.words import printable

_OPTIONS: Final = (
    # Nobody is there to be asked, and a host that does not answer any more is noticed.
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"),
)
_COMMAND: Final = "docker system dial-stdio"
_BACKLOG: Final = 16
_ENDS_S: Final = 5.0
_WORDS: Final = 300
_MOST: Final = 64 << 10


class Tunnel:
    """A folder with a socket, and a thread that serves it until it is closed.

    Args:
        address: ``ssh://[USER@]HOST[:PORT]``.
    """

    def __init__(self, address: str) -> None:
        self._command = _command(address)
        self._folder = tempfile.TemporaryDirectory(prefix="edgefleet-ssh-")
        self.socket = Path(self._folder.name, "engine.sock")
        self._said = ""
        self._way = socket.socket(socket.AF_UNIX)
        self._way.bind(str(self.socket))
        self._way.listen(_BACKLOG)
        threading.Thread(target=self._serve, name="ssh-tunnel", daemon=True).start()

    def said(self) -> str:
        """What the last ssh that failed complained of, without control characters; empty where none did."""
        return self._said

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._way.shutdown(socket.SHUT_RDWR)
        self._way.close()
        self._folder.cleanup()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._way.accept()
                threading.Thread(target=self._carry, args=(client,), name="ssh", daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, tempfile.TemporaryFile() as complaints:
            try:
                at = client.fileno()
                ssh = subprocess.Popen(self._command, stdin=at, stdout=at, stderr=complaints)  # noqa: S603 - no shell
            except OSError as error:
                self._said = f"ssh cannot be started: {error.strerror}"
                return
            with ssh:
                ended = _until_either_ends(ssh, client)
                if not ended:
                    ssh.kill()
            self._said = ""
            if ended and ssh.returncode:
                complaints.seek(max(0, complaints.tell() - _MOST))
                words = printable(complaints.read().decode(errors="replace").strip()[-_WORDS:])
                self._said = words or f"ssh ended with exit code {ssh.returncode}"


def _until_either_ends(ssh: "subprocess.Popen[bytes]", client: socket.socket) -> bool:
    """Wait for ssh or for who uses it; True: ssh ended by itself, at once or once nobody used it any more."""
    over = threading.Event()

    def wait() -> None:
        ssh.wait()
        over.set()

    threading.Thread(target=wait, name="ssh-ends", daemon=True).start()
    hangs_up = select.poll()
    # Only its end is waited for: all that it says is for ssh.
    hangs_up.register(client, select.POLLHUP)
    while not over.is_set():
        if hangs_up.poll(200):
            return over.wait(_ENDS_S)
    return True


def _command(address: str) -> list[str]:
    user, _, place = urlsplit(address).netloc.rpartition("@")
    # As it is written: the names of an ssh configuration have small and capital letters.
    bracketed = place.startswith("[")
    host, _, port = place[1:].partition("]") if bracketed else place.partition(":")
    port = port.removeprefix(":")
    return ["ssh", *_OPTIONS, *(("-l", user) if user else ()), *(("-p", port) if port else ()), "--", host, _COMMAND]
