"""The API server as a proxy to pods: asked for ``pods/NAME:PORT/proxy/PATH``, it asks the program that listens there.

The double's pods run nothing. A test that has a program which is to be a pod's says where it really listens, and
requests are passed on to it. Network policies are held to as where the cluster's network enforces them: the API server
is no pod, so that only a rule that names nobody lets it in. What takes a real one 30 s to find out is said at once.
"""

import http.client
import ssl
from typing import Any

import msgspec

from tests.doubles.kubernetes import kinds, refusals, selectors
from tests.doubles.kubernetes.refusals import Refused
from tests.doubles.kubernetes.store import Store

_WITHIN_S = 10
# What belongs to one connection, and the bearer's token, which was for the API server.
_KEPT = {"authorization", "connection", "content-length", "host", "te", "transfer-encoding", "upgrade"}


class Passed(msgspec.Struct, frozen=True):
    """What the program in a pod has answered."""

    code: int
    headers: dict[str, str]
    body: bytes


class Proxying:
    """``listens`` has the real port on loopback of a pod's port, by namespace, pod and port."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.listens: dict[tuple[str, str, int], int] = {}

    def get(self, namespace: str, named: str, path: str, headers: dict[str, str]) -> Passed:
        """``named`` is ``NAME:PORT`` or ``https:NAME:PORT``, as the address has it."""
        scheme, name, port = (["http", *named.split(":")])[-3:]
        pod = self._store.get(kinds.POD, namespace, name)
        if pod is None:
            raise refusals.not_found(kinds.POD, name)
        address = pod["status"].get("podIP")
        if not address:
            raise refusals.bad_request("address not allowed")
        at = f"dial tcp {address}:{port}"
        if not self._lets_in(pod, int(port)):
            raise _unreached(f"{at}: i/o timeout")
        real = self.listens.get((namespace, name, int(port)))
        if real is None:
            raise _unreached(f"{at}: connect: connection refused")
        passed = {field: value for field, value in headers.items() if field not in _KEPT}
        connection = _connection(scheme, real)
        try:
            connection.request("GET", path, headers=passed | {"Host": f"{address}:{port}", "X-Forwarded-Uri": path})
            answer = connection.getresponse()
            return Passed(answer.status, dict(answer.getheaders()), answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise _unreached(f"{at}: {error}") from error
        finally:
            connection.close()

    def _lets_in(self, pod: dict[str, Any], port: int) -> bool:
        """Whether somebody who is no pod may come in at a port: any rule of any policy does."""
        labels, namespace = pod["metadata"].get("labels", {}), pod["metadata"]["namespace"]
        held = [
            one["spec"].get("ingress", ())
            for one in self._store.all(kinds.NETWORK_POLICY, namespace)
            if "Ingress" in one["spec"]["policyTypes"] and selectors.matches(one["spec"]["podSelector"], labels)
        ]
        everybody = [rule for rules in held for rule in rules if not rule.get("from")]
        ports = [{each["port"] for each in rule.get("ports", ())} for rule in everybody]
        return not held or any(not named or port in named for named in ports)


def _connection(scheme: str, port: int) -> http.client.HTTPConnection:
    if scheme != "https":
        return http.client.HTTPConnection("127.0.0.1", port, timeout=_WITHIN_S)
    # The real one does not look at a pod's certificate either.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=_WITHIN_S, context=context)


def _unreached(why: str) -> Refused:
    return Refused(503, "ServiceUnavailable", f"error trying to reach service: {why}")
