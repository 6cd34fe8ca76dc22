"""Containers that end with the answers that they owe, however long that takes: nobody waits for them."""

import contextlib
import threading
from typing import Final

import docker
import docker.errors
import requests

#: what the answers that are owed have where something is not replaced but removed
STOP_S: Final = 35
_AT_ONCE: Final = 64


def end(api: docker.APIClient, container: str, *, within_s: int = STOP_S) -> None:
    """Stop a container, with the answers that it owes, and remove it; nothing where it is not there."""
    with contextlib.suppress(docker.errors.NotFound):
        api.stop(container, timeout=within_s)
        api.remove_container(container, force=True, v=True)


class Endings:
    """What is ending now. Nothing is lost with it: whoever looks again and still sees it, ends it again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ending: set[str] = set()

    def begin(self, api: docker.APIClient, container: str, within_s: int) -> None:
        """Stop a container and take it away, in a thread of its own; nothing where that is under way.

        Args:
            api: the engine.
            container: its id.
            within_s: after so many seconds the engine ends it.
        """
        with self._lock:
            if container in self._ending or len(self._ending) >= _AT_ONCE:
                return
            self._ending.add(container)
        # Of a server that ends none is left to wait for.
        threading.Thread(target=self._end, args=(api, container, within_s), name="ending", daemon=True).start()

    def _end(self, api: docker.APIClient, container: str, within_s: int) -> None:
        try:
            # An engine that does not answer is said at the next look, which comes here again.
            with contextlib.suppress(docker.errors.DockerException, requests.RequestException, OSError):
                end(api, container, within_s=within_s)
        finally:
            with self._lock:
                self._ending.discard(container)
