"""The cluster's API through the official client: JSON objects in and out, each call bounded, refusals in our words.

The client (``client.py``) brings how a cluster is reached; its classes for each kind of object would say less than the
objects do, so they are left alone.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from fleet.refusals import TargetTrouble
from fleet.targets.kubernetes import client
from fleet.targets.kubernetes.attached import Attached
from fleet.targets.kubernetes.names import MANAGER
from modules.canonical import UNREADABLE
from modules.errors import EdgefleetError
from modules.words import printable

_CONNECT_S: Final = 5.0
_READ_S: Final = 15.0
_WHOLE_S: Final = 30.0
_MOST: Final = 64 << 20
_CHUNK: Final = 256 << 10
# The cluster cuts a log off at its end, so it is asked for more than is shown.
_LOG: Final = 4 << 20
_WORDS: Final = 500
# What a program in a pod says of itself, which may hang and may be anything.
_POD_S: Final = 3.0
_POD_MOST: Final = 1 << 20
_OK: Final = range(200, 300)
_MISSING: Final = 404
_CONFLICT: Final = 409
_INVALID: Final = 422
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"


class Kind(NamedTuple):
    """Where a kind of object lives in the API."""

    group: str
    version: str
    plural: str

    @property
    def api(self) -> str:
        """As objects say it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


KINDS: Final = {
    "Deployment": Kind("apps", "v1", "deployments"),
    "Event": Kind("", "v1", "events"),
    "HorizontalPodAutoscaler": Kind("autoscaling", "v2", "horizontalpodautoscalers"),
    "HTTPRoute": Kind("gateway.networking.k8s.io", "v1", "httproutes"),
    "Job": Kind("batch", "v1", "jobs"),
    "Ingress": Kind("networking.k8s.io", "v1", "ingresses"),
    "NetworkPolicy": Kind("networking.k8s.io", "v1", "networkpolicies"),
    "Pod": Kind("", "v1", "pods"),
    "PodDisruptionBudget": Kind("policy", "v1", "poddisruptionbudgets"),
    "Secret": Kind("", "v1", "secrets"),
    "Service": Kind("", "v1", "services"),
    "ServiceAccount": Kind("", "v1", "serviceaccounts"),
}

#: what endpoints are made of, in the order in which it is taken away: whoever sends requests first
OURS: Final = (
    *("Ingress", "HorizontalPodAutoscaler", "Deployment", "Service", "PodDisruptionBudget"),
    *("NetworkPolicy", "Secret", "ServiceAccount"),
)
#: and batch jobs
OF_JOBS: Final = ("Job", "NetworkPolicy", "Secret", "ServiceAccount")


#: of a target that exposes by a Gateway; a cluster without the Gateway API does not know it
ROUTE: Final = "HTTPRoute"


class ApiRefusal(TargetTrouble):
    """The API server says no; ``status`` is HTTP's."""

    def __init__(self, message: str, *, element: str = "", remedy: str = "", status: int = 0) -> None:
        super().__init__(message, element=element, remedy=remedy)
        self.status = status


class Unanswered(TargetTrouble):
    """There is no use in asking for anything else now."""


class Api:
    """One namespace of a cluster.

    Args:
        attached: how it is reached.

    Raises:
        BadSettings: the client is not installed, or the kubeconfig cannot be used.
    """

    def __init__(self, attached: Attached) -> None:
        #: what endpoints of this target are made of
        self.kinds = (*((ROUTE,) if attached.expose == "Gateway" else ()), *OURS)
        self._namespace = attached.namespace
        self._where = f"namespace {attached.namespace}"
        self._client = client.client(attached)

    def close(self) -> None:
        self._client.close()

    def version(self) -> str:
        return str(self._json("GET", "/version").get("gitVersion", ""))

    def namespace(self) -> dict[str, Any]:
        """The namespace itself."""
        return self._json("GET", f"/api/v1/namespaces/{self._namespace}")

    def may(self, verb: str, group: str, resource: str, subresource: str = "") -> bool:
        """Whether the cluster lets us."""
        asked = {"namespace": self._namespace, "verb": verb, "group": group, "resource": resource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked | ({"subresource": subresource} if subresource else {})},
        }
        said = self._json("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
        return bool((said.get("status") or {}).get("allowed"))

    def listed(self, kind: str, *, labels: str = "", fields: str = "") -> list[dict[str, Any]]:
        """The objects of a kind that have these labels and fields, as the cluster has them now."""
        chosen = {"labelSelector": labels, "fieldSelector": fields}
        found = self._json("GET", self._path(kind), query={name: one for name, one in chosen.items() if one})
        items: list[dict[str, Any]] = found.get("items") or []
        return items

    def apply(self, body: dict[str, Any], *, ours: bool) -> dict[str, Any]:
        """Make an object what is said, and leave alone what is not; the server compares.

        Args:
            body: the object.
            ours: it is there, and by its labels ours: what others changed of it is put back.
        """
        name = body["metadata"]["name"]
        try:
            return self._applied(body, ours=ours)
        except ApiRefusal as error:
            if error.status == _INVALID and ours:
                # Beside ours stands what contradicts it: another port of the same name, a second kind of probe. So
                # lists become what we say, as a whole, and what is ours is compared again.
                query = {"fieldManager": MANAGER}
                self._json("PATCH", self._path_of(body), query=query, body=body, kind=_MERGE)
                return self._applied(body, ours=ours)
            if error.status != _CONFLICT or ours:
                raise
            raise TargetTrouble(
                f"something of this name is there that is not of this endpoint: {error.message}",
                element=f"{body['kind']} {name}",
                remedy="remove it, or choose another name",
            ) from error

    def _applied(self, body: dict[str, Any], *, ours: bool) -> dict[str, Any]:
        query = {"fieldManager": MANAGER, "force": "true" if ours else "false"}
        return self._json("PATCH", self._path_of(body), query=query, body=body, kind=_APPLY)

    def delete(self, found: dict[str, Any], kind: str) -> None:
        """Take an object away, the very one that was seen; its dependants go after it."""
        meta = found["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": meta["uid"]},
        }
        try:
            self._json("DELETE", self._path(kind, meta["name"]), body=body)
        except ApiRefusal as error:
            # It has gone, or another one has its name: then the next look sees that.
            if error.status not in {_MISSING, _CONFLICT}:
                raise

    def log(self, pod: str, container: str, *, lines: int, most: int, previous: bool = False) -> str:
        """The last lines of a container, and of them the last bytes; nothing where it has none."""
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(_LOG), "timestamps": "true"}
        query |= {"previous": "true"} if previous else {}
        try:
            data = self._ask("GET", f"{self._path('Pod', pod)}/log", query=query)
        except ApiRefusal as error:
            # A container that has not begun, or whose log is gone: 400 and 404.
            if error.status in {400, _MISSING}:
                return ""
            raise
        return "\n".join(map(printable, data[-most:].decode(errors="replace").split("\n")))

    def of_pod(
        self, pod: str, port: int, path: str, *, secure: bool, headers: dict[str, str], query: dict[str, str]
    ) -> tuple[int, bytes]:
        """The status and the body with which a program in a pod answers, asked by the API server.

        Raises:
            ApiRefusal: it may not be asked, or the API server does not reach it.
            Unanswered: nothing came in time, from whomever.
        """
        named = f"{'https:' if secure else ''}{quote(pod, safe='')}:{port}"
        status, data, _ = self._exchange(
            "GET", f"{self._path('Pod')}/{named}/proxy{path}", query=query, headers=headers, silent_s=_POD_S,
            most=_POD_MOST,
        )  # fmt: skip
        if status in _OK or (said := _status_said(data)) is None:
            return status, data
        raise ApiRefusal(f"the cluster says ({status}): {printable(said, _WORDS)}", element=self._where, status=status)

    def _path_of(self, body: dict[str, Any]) -> str:
        return self._path(body["kind"], body["metadata"]["name"])

    def _path(self, kind: str, name: str = "") -> str:
        found = KINDS[kind]
        path = f"{found.root}/namespaces/{self._namespace}/{found.plural}"
        return f"{path}/{quote(name, safe='')}" if name else path

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        data = self._ask(method, path, **more)
        try:
            return msgspec.json.decode(data, type=dict[str, Any])
        except UNREADABLE as error:
            raise TargetTrouble(f"the cluster answers nonsense: {error}", element=self._where) from error

    def _ask(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: Any = None, kind: str = ""
    ) -> bytes:
        headers = {"Accept": "application/json, */*"}
        if body is not None:
            headers["Content-Type"] = kind or "application/json"
        status, data, told = self._exchange(method, path, query=query, headers=headers, body=body)
        if status in _OK:
            return data
        raise self._refusal(status, data, told)

    def _exchange(
        self, method: str, path: str, *, headers: dict[str, str], query: dict[str, str] | None = None, body: Any = None,
        silent_s: float = 0.0, most: int = _MOST,
    ) -> tuple[int, bytes, dict[str, str]]:  # fmt: skip
        """One request and its whole answer, whatever it is: status, body and headers."""
        with self._translated():
            ends = time.monotonic() + _WHOLE_S
            asked = self._client.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            answer = self._client.call_api(*asked, _request_timeout=(_CONNECT_S, silent_s or _READ_S)).response
            data = bytearray()
            for chunk in answer.stream(_CHUNK):
                data += chunk
                if len(data) > most or time.monotonic() > ends:
                    answer.close()
                    raise Unanswered(
                        f"an answer takes more than {_WHOLE_S:g} s or {most >> 20} MiB", element=self._where
                    )
            answer.release_conn()
        return int(answer.status), bytes(data), dict(answer.headers)

    def _refusal(self, status: int, data: bytes, headers: dict[str, str]) -> TargetTrouble:
        """A refusal in our words."""
        try:
            said = str(msgspec.json.decode(data, type=dict[str, Any]).get("message", ""))
        except UNREADABLE:
            said = data.decode(errors="replace")
        words, remedy = printable(said.strip(), _WORDS), "see what the cluster says"
        match status:
            case 401:
                words, remedy = "the cluster does not know who we are", "give the kubeconfig valid credentials"
            case 403 if "quota" not in said:
                words, remedy = f"the cluster does not let us: {words}", "apply deploy/kubernetes/rbac.yaml there"
            case 429:
                after = next((one for name, one in headers.items() if name.lower() == "retry-after"), "")
                wait = f", and wants {printable(after, 10)} s of peace" if after else ""
                return Unanswered(f"the cluster is asked too much at a time{wait}", element=self._where)
            case _ if status >= 500:  # noqa: PLR2004 - HTTP's own line
                return Unanswered(f"the cluster is in trouble itself ({status}): {words}", element=self._where)
            case _:
                words = f"the cluster refuses ({status}): {words}"
        return ApiRefusal(words, element=self._where, remedy=remedy, status=status)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except EdgefleetError:
            raise
        except client.failures() as error:
            raise Unanswered(
                "the cluster does not answer",
                element=self._where,
                remedy="see whether its API server runs, and what the kubeconfig says",
                hidden=printable(str(error), _WORDS),
            ) from error


def _status_said(data: bytes) -> str | None:
    """What the API server itself says in a Status; None: it is somebody else's answer."""
    try:
        said = msgspec.json.decode(data, type=dict[str, Any])
    except UNREADABLE:
        return None
    return str(said.get("message", "")) if said.get("kind") == "Status" else None
