"""The cluster's API through the official client: JSON objects in and out, each call bounded, refusals in our words.

The client brings how a cluster is reached (kubeconfig with its plugins, service account, TLS); its classes for each
kind of object would say less than the objects do, so they are left alone. It is loaded where a target needs it, for it
is an extra of its own (``edgefleet[kubernetes]``).
"""

import importlib
import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from fleet.refusals import TargetTrouble
from fleet.targets.kubernetes.attached import Attached
from fleet.targets.kubernetes.names import MANAGER
from modules.errors import BadSettings, EdgefleetError
from modules.words import printable

_CONNECT_S: Final = 5.0
_READ_S: Final = 15.0
_WHOLE_S: Final = 30.0
# A plugin of a kubeconfig, which may have to ask somebody far away.
_PLUGIN_S: Final = 20
_NAME: Final = 200
_MOST: Final = 64 << 20
_CHUNK: Final = 256 << 10
# The cluster cuts a log off at its end, so it is asked for more than is shown.
_LOG: Final = 4 << 20
_WORDS: Final = 500
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
        self._client = _client(attached)

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
        except msgspec.DecodeError as error:
            raise TargetTrouble(f"the cluster answers nonsense: {error}", element=self._where) from error

    def _ask(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: Any = None, kind: str = ""
    ) -> bytes:
        headers = {"Accept": "application/json, */*"}
        if body is not None:
            headers["Content-Type"] = kind or "application/json"
        with self._translated():
            ends = time.monotonic() + _WHOLE_S
            asked = self._client.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            answer = self._client.call_api(*asked, _request_timeout=(_CONNECT_S, _READ_S)).response
            data = bytearray()
            for chunk in answer.stream(_CHUNK):
                data += chunk
                if len(data) > _MOST or time.monotonic() > ends:
                    answer.close()
                    raise Unanswered(
                        f"an answer takes more than {_WHOLE_S:g} s or {_MOST >> 20} MiB", element=self._where
                    )
            answer.release_conn()
        if answer.status in _OK:
            return bytes(data)
        raise self._refusal(answer.status, bytes(data), dict(answer.headers))

    def _refusal(self, status: int, data: bytes, headers: dict[str, str]) -> TargetTrouble:
        """A refusal in our words."""
        try:
            said = str(msgspec.json.decode(data, type=dict[str, Any]).get("message", ""))
        except msgspec.DecodeError:
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
        except _failures() as error:
            raise Unanswered(
                "the cluster does not answer",
                element=self._where,
                remedy="see whether its API server runs, and what the kubeconfig says",
                hidden=printable(str(error), _WORDS),
            ) from error


def _client(attached: Attached) -> Any:
    """The official client for one cluster; nothing of it is shared with other targets.

    Raises:
        BadSettings: it is not installed, or how the cluster is reached cannot be used.
    """
    client, config = _library("kubernetes.client"), _library("kubernetes.config")
    configuration = client.Configuration()
    try:
        if attached.kubeconfig:
            _load(attached, configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
    # A plugin of the kubeconfig is a program, and its words may be anything.
    except (config.ConfigException, _library("yaml").YAMLError, *_failures(), ValueError, KeyError, TypeError) as error:
        where = attached.kubeconfig or "the server's own service account"
        raise BadSettings(
            f"it cannot be used: {printable(str(error), _WORDS)}",
            element=where,
            remedy="name a kubeconfig that the fleet server can read; without one the server has to be a pod there",
        ) from error
    _check_door(configuration, attached.kubeconfig)
    # A kept connection that was just closed costs no pass: everything that we ask can be asked twice.
    configuration.retries = _library("urllib3").Retry(
        total=1, redirect=0, status=0, allowed_methods=None, respect_retry_after_header=False
    )
    return client.ApiClient(configuration)


def _load(attached: Attached, configuration: Any) -> None:
    """What a kubeconfig says; its plugin, a program that may hang or fail, is bounded, and its failure is one of ours.

    Raises:
        BadSettings: the plugin brought nothing, or it is of the old kind, which nothing bounds.
    """
    library = _library("kubernetes.config.kube_config")
    merged = library.KubeConfigMerger(attached.kubeconfig).config
    if merged is None:
        raise ValueError("there is no such file")
    plugins = {}
    for user in merged.value.get("users") or ():
        # The library's own view of it, by which it calls the plugin now, and again whenever a token has ended.
        if plugin := (user.value.get("user") or {}).get("exec"):
            plugins[user.value["name"]] = name = str(plugin["command"])
            words = (str(_PLUGIN_S), name, *map(str, plugin.get("args") or ()))
            plugin |= {"command": "timeout", "args": ["--kill-after=2", *words]}
    loader = library.KubeConfigLoader(
        config_dict=merged, config_base_path=None, active_context=attached.context or None
    )
    who = loader.current_context["context"].get("user")
    for user in merged.value.get("users") or ():
        if user.value.get("name") == who and "auth-provider" in (user.value.get("user") or {}):
            # The library would run a program of its, or ask at an address of its, for as long as that takes.
            raise BadSettings(
                "it names an auth-provider, which Kubernetes gave up in 1.26",
                element=attached.kubeconfig,
                remedy="write exec with the cloud's own plugin, a token or a client certificate instead",
            )
    loader.load_and_set(configuration)
    asked = plugins.get(who)
    if asked and not configuration.api_key and not configuration.cert_file:
        raise BadSettings(
            f"its plugin {printable(asked, _NAME)} brought no credentials within {_PLUGIN_S} s",
            element=attached.kubeconfig,
            remedy="run it as the account of the fleet server; what it complained of stands in the server's log",
        )


def _check_door(configuration: Any, kubeconfig: str) -> None:
    url = urlsplit(configuration.host)
    try:
        own = ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        own = False
    if not configuration.verify_ssl or (url.scheme != "https" and not own):
        raise BadSettings(
            "it reaches the cluster without knowing that it is this cluster, and would show it its credentials",
            element=kubeconfig,
            remedy="write https:// and certificate-authority-data into it, and no insecure-skip-tls-verify",
        )


def _failures() -> tuple[type[Exception], ...]:
    return (OSError, _library("urllib3.exceptions").HTTPError, _library("kubernetes.client").ApiException)


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadSettings(
            "the client for Kubernetes is not installed",
            element="fleet server",
            remedy="install edgefleet[fleet,kubernetes]",
        ) from error
