"""Containers that end with the answers that they owe, however long that takes: nobody waits for them."""

import contextlib
import http
import threading
from collections.abc import Collection, Mapping
from typing import Any, Final

import docker
import docker.errors
import requests

from fleet.refusals import Conflict

#: what the answers that are owed have where something is not replaced but removed
STOP_S: Final = 35
_AT_ONCE: Final = 64


def end(api: docker.APIClient, container: str, *, within_s: int = STOP_S) -> None:
    """Stop a container, with the answers that it owes, and remove it; nothing where it is not there, or is going."""
    try:
        api.stop(container, timeout=within_s)
        api.remove_container(container, force=True, v=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != http.HTTPStatus.CONFLICT or "already in progress" not in str(error.explanation):
            raise


def clear(api: docker.APIClient, name: str, labels: Mapping[str, str]) -> None:
    """End what has a name that something of ours is to have.

    Raises:
        Conflict: it is somebody else's, and stays.
    """
    try:
        found = api.inspect_container(name)
    except docker.errors.NotFound:
        return
    theirs = found["Config"]["Labels"] or {}
    if any(theirs.get(key) != value for key, value in labels.items()):
        raise Conflict(
            "a container that is not the fleet's has this name", element=name, remedy="rename or remove it on the host"
        )
    end(api, found["Id"])


def start_again(api: docker.APIClient, container: str, networks: Collection[str]) -> None:
    """Have a container run that somebody stopped or paused; one that was taken out of its network is to be made anew.

    Args:
        api: the engine.
        container: its id.
        networks: the ids of the networks that it may be in.
    """
    found = api.inspect_container(container)
    if is_cut_off(found, networks):
        end(api, container, within_s=0)
    elif found["State"].get("Paused"):
        api.unpause(container)
    else:
        api.start(container)


def is_cut_off(found: dict[str, Any], networks: Collection[str]) -> bool:
    """Whether a container is in none of these networks any more: taken out of it, or the network was made anew."""
    here = [one.get("NetworkID") for one in (found["NetworkSettings"]["Networks"] or {}).values()]
    # One that never ran has no id of its network yet.
    return not any(one in networks or not one for one in here)


def take_away(api: docker.APIClient, network: str) -> None:
    """Remove a network of ours; whoever was brought into it by hand, to look around, goes on without it."""
    for other in api.inspect_network(network).get("Containers") or ():
        with contextlib.suppress(docker.errors.NotFound):
            api.disconnect_container_from_network(other, network, force=True)
    api.remove_network(network)


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
