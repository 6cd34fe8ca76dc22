"""An endpoint behind a Gateway of the cluster (Gateway API): one HTTPRoute, which that Gateway has to let in.

The Gateway is its operator's, with its listeners and their certificates; nothing of it is changed or read. What comes
of the route, its controller writes into the route's status.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fleet.targets.kubernetes.api import KINDS, ROUTE
from fleet.targets.kubernetes.attached import Attached
from fleet.targets.kubernetes.names import Names
from modules.words import printable

_GROUP: Final = KINDS[ROUTE].group
_HTTP: Final = 80
_ACCEPTED: Final = "Accepted"
_MATTERS: Final = (_ACCEPTED, "ResolvedRefs")
_WORDS: Final = 300


def route(names: Names, attached: Attached, host: str) -> dict[str, Any]:
    """The way from the Gateway's host to the endpoint's own gateway. Lists are one value to the cluster: said whole.

    But for the backend's group, which is empty: some API servers of old take an empty text for none, and refuse it.
    """
    namespace, _, name = attached.gateway.partition("/")
    parent = {"group": _GROUP, "kind": "Gateway", "namespace": namespace, "name": name}
    if attached.gateway_listener:
        parent["sectionName"] = attached.gateway_listener
    backend = {"kind": "Service", "name": names.gateway, "port": _HTTP, "weight": 1}
    match = {"path": {"type": "PathPrefix", "value": "/"}}
    return {
        "apiVersion": KINDS[ROUTE].api,
        "kind": ROUTE,
        "metadata": {"name": names.gateway, "labels": names.of("gateway")},
        "spec": {
            "parentRefs": [parent],
            "hostnames": [host],
            "rules": [{"matches": [match], "backendRefs": [backend]}],
        },
    }


def taken(found: Mapping[str, Any] | None) -> bool:
    """Whether a Gateway has let it in."""
    return any(one.get("type") == _ACCEPTED and one.get("status") == "True" for one in _conditions(found))


def refusals(found: Mapping[str, Any] | None) -> Iterator[str]:
    """Why it is not let in, or leads nowhere, in words for people."""
    for one in _conditions(found):
        if one.get("type") in _MATTERS and one.get("status") == "False":
            said = printable(f"{one.get('reason', '')}: {one.get('message', '')}", _WORDS)
            yield f"the Gateway does not take its route: {said}"


def _conditions(found: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """What is said of the route as it is now, and not as it was."""
    if found is None:
        return
    generation = found["metadata"].get("generation", 0)
    for parent in (found.get("status") or {}).get("parents") or ():
        for one in parent.get("conditions") or ():
            if int(one.get("observedGeneration") or generation) >= generation:
                yield one
