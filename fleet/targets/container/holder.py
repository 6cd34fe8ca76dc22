"""Which fleet server works on a container host, where two have the same fleet's mark: a server, and a copy of it.

Each would put back what the other has changed, for ever. So whoever begins to lead puts its own mark there, and one
that finds another's in place of its own touches nothing any more, and says so. The newest goes on: a server that was
started again cannot be told from a copy that was started.
"""

import contextlib
import secrets
import threading
from typing import Final

import docker
import docker.errors

from fleet.refusals import TargetTrouble
from fleet.targets.container.specs import LABEL

_SERVER: Final = f"{LABEL}server"


class Holder:
    """This server's mark on the hosts of its fleet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """It leads from now on, whoever did before."""
        with self._lock:
            self._mine = secrets.token_hex(8)
            self._held: set[str] = set()

    def check(self, api: docker.APIClient, fleet: str, engine: str, *, looks_only: bool = False) -> None:
        """Let this server work on an engine; where it ``looks_only``, no mark is put there.

        Raises:
            TargetTrouble: another one has begun to, since this one did.
        """
        with self._lock:
            filters = {"label": [f"{LABEL}fleet={fleet}", _SERVER]}
            found = {one["Name"] for one in api.volumes(filters=filters)["Volumes"] or ()}
            mine = f"edgefleet.{fleet}.server.{self._mine}"
            if (others := found - {mine}) and engine in self._held:
                raise TargetTrouble(
                    "another fleet server with this fleet's mark has begun to work on this host",
                    element="container host",
                    remedy="one of them may be a copy: stop that one, and start the other again",
                )
            if looks_only:
                return
            for name in others:
                with contextlib.suppress(docker.errors.NotFound):
                    api.remove_volume(name)
            if mine not in found:
                api.create_volume(mine, labels={f"{LABEL}fleet": fleet, _SERVER: self._mine})
            self._held.add(engine)

    def leave(self, api: docker.APIClient, fleet: str, engine: str) -> None:
        """Nothing of this fleet is left on an engine, so no mark is, either."""
        with self._lock, contextlib.suppress(docker.errors.NotFound):
            api.remove_volume(f"edgefleet.{fleet}.server.{self._mine}")
            self._held.discard(engine)
