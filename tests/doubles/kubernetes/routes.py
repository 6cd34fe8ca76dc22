"""From an address and a method to what is done: authenticated, authorised, then one of the verbs."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec
import yaml

from tests.doubles.kubernetes import kinds, patches, refusals
from tests.doubles.kubernetes.access import Access, Action, User
from tests.doubles.kubernetes.api import MOST_BODY, Api
from tests.doubles.kubernetes.discovery import document
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.logs import Logs
from tests.doubles.kubernetes.managed import Writer
from tests.doubles.kubernetes.proxying import Proxying
from tests.doubles.kubernetes.refusals import Refused, bad_request, no_such_path
from tests.doubles.kubernetes.reviews import review
from tests.doubles.kubernetes.scales import read_scale, with_scale
from tests.doubles.kubernetes.watches import Reading

_READABLE = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
_ORPHANS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)


class Request(msgspec.Struct, frozen=True):
    method: str
    address: str
    headers: dict[str, str]
    body: bytes = b""
    certificate: dict[str, Any] | None = None

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.address).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.address).query, keep_blank_values=True))

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip()


class Answer(msgspec.Struct):
    """``said`` is a document, a text, what somebody else answered, or for a watch the events as they happen."""

    code: int
    said: dict[str, Any] | str | bytes | Iterator[dict[str, Any]]
    headers: dict[str, str] = {}


class Place(msgspec.Struct, frozen=True):
    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    beyond: str = ""


def place(path: str) -> Place | None:
    """What an address names; None where it is no resource of ours."""
    match = re.fullmatch(
        r"/(?:api/(v1)|apis/([^/]+)/([^/]+))(?:/namespaces/([^/]+))?/([^/]+)(?:/([^/]+))?(?:/([^/]+))?", path
    )
    proxied = re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/proxy(/.*)?", path)
    if proxied:
        return Place(kinds.POD, proxied[1], proxied[2], "proxy", proxied[3] or "/")
    namespaces = re.fullmatch(r"/api/v1/namespaces/([^/]+)(?:/(status|finalize))?", path)
    if namespaces:
        return Place(kinds.NAMESPACE, "", namespaces[1], namespaces[2] or "")
    if match is None:
        return None
    core, group, version, namespace, plural, name, subresource = match.groups()
    kind = kinds.at_path(group or "", core or version, plural)
    if kind is None or (namespace and not kind.namespaced):
        return None
    return Place(kind, namespace or "", name or "", subresource or "")


class Routes:
    """``handle`` answers a request, or raises what it is refused with."""

    def __init__(self, api: Api, access: Access, reading: Reading, logs: Logs, proxying: Proxying) -> None:
        self.api = api
        self.access = access
        self._reading = reading
        self._logs = logs
        self._proxying = proxying

    def handle(self, request: Request, server: str) -> Answer:
        user = self.access.user(request.headers.get("authorization", ""), request.certificate)
        where = place(request.path)
        if where is None:
            self.access.check(user, Action(request.method.lower(), path=request.path))
            said = document(request.path.rstrip("/"), server) if request.method == "GET" else None
            if said is None:
                raise no_such_path()
            return Answer(200, said)
        if where.kind.namespaced and not where.namespace and (where.name or request.method != "GET"):
            raise no_such_path()
        verb = _verb(request, where)
        # A namespace is within itself, for whoever is asked whether somebody may see it.
        within = where.name if where.kind is kinds.NAMESPACE else where.namespace
        self.access.check(user, Action(verb, where.kind, within, where.name, where.subresource))
        served = where.kind.verbs if not where.subresource else ("get", "update", "patch")
        if where.subresource and where.subresource not in where.kind.subresources:
            raise no_such_path()
        if verb not in served:
            raise refusals.no_method()
        if len(request.body) > MOST_BODY:
            raise refusals.too_large("limit is 3145728")
        return getattr(self, f"_{verb}")(request, where, user)

    def _get(self, request: Request, where: Place, _: User) -> Answer:
        if where.subresource == "proxy":
            beyond = f"{where.beyond}?{urlencode(request.query)}" if request.query else where.beyond
            passed = self._proxying.get(where.namespace, where.name, beyond, request.headers)
            return Answer(passed.code, passed.body, {"Content-Type": passed.headers.get("Content-Type", "")})
        if where.subresource == "log":
            return Answer(200, self._logs.read(self.api.get(where.kind, where.namespace, where.name), request.query))
        thing = self.api.get(where.kind, where.namespace, where.name)
        return Answer(200, read_scale(thing) if where.subresource == "scale" else thing)

    def _list(self, request: Request, where: Place, _: User) -> Answer:
        return Answer(200, self._reading.find(where.kind, where.namespace, request.query))

    def _watch(self, request: Request, where: Place, _: User) -> Answer:
        return Answer(200, self._reading.watch(where.kind, where.namespace, request.query))

    def _create(self, request: Request, where: Place, user: User) -> Answer:
        body = _body(request)
        if not where.kind.kept:
            return Answer(201, review(self.access, user, where.kind, body))
        if where.name:
            raise refusals.no_method()
        self.access.see_no_escalation(
            user, where.kind, body | {"metadata": {"namespace": where.namespace} | body.get("metadata", {})}
        )
        made = self.api.create(where.kind, where.namespace, body, _writer(request), dry=_dry(request))
        return Answer(201, made)

    def _update(self, request: Request, where: Place, user: User) -> Answer:
        body, writer = _body(request), _writer(request, where.subresource)
        if where.subresource == "scale":
            live = self.api.get(where.kind, where.namespace, where.name)
            body = with_scale(where.kind, live, body)
        elif where.subresource == "finalize":
            return Answer(200, self._finalize(where, body))
        self.access.see_no_escalation(user, where.kind, body)
        made = self.api.replace(where.kind, where.namespace, where.name, body, writer, dry=_dry(request))
        return Answer(200, read_scale(made) if where.subresource == "scale" else made)

    def _patch(self, request: Request, where: Place, user: User) -> Answer:
        how, query = request.media_type, request.query
        if how not in patches.MEDIA_TYPES:
            raise refusals.no_media_type(patches.MEDIA_TYPES)
        body = _body(request)
        if how == patches.APPLY:
            return self._apply(request, where, user, body)
        if query.get("force") is not None:
            raise _options("force: Forbidden: may not be specified for non-apply patch")
        writer = _writer(request, where.subresource)
        if where.subresource == "scale":
            live = self.api.get(where.kind, where.namespace, where.name)
            scale = patches.patched(
                where.kind, patches.MERGE if how == patches.STRATEGIC else how, read_scale(live), body
            )
            made = self.api.replace(
                where.kind, where.namespace, where.name, with_scale(where.kind, live, scale), writer
            )
            return Answer(200, read_scale(made))
        made = self.api.patch(where.kind, where.namespace, where.name, how, body, writer, dry=_dry(request))
        return Answer(200, made)

    def _apply(self, request: Request, where: Place, user: User, body: dict[str, Any]) -> Answer:
        if not request.query.get("fieldManager"):
            raise _options("fieldManager: Required value: is required for apply patch")
        if where.subresource == "scale":
            raise refusals.no_method()
        writer = Writer(_writer(request).manager, "Apply", where.subresource)
        if self.api.store.get(where.kind, where.namespace, where.name) is None:
            action = Action("create", where.kind, where.namespace, where.name)
            self.access.check(user, action)  # an apply that makes something needs the right to create, too
        self.access.see_no_escalation(user, where.kind, body)
        force = request.query.get("force") in {"true", "True", "1"}
        made, new = self.api.apply(
            where.kind, where.namespace, where.name, body, writer, force=force, dry=_dry(request)
        )
        return Answer(201 if new else 200, made)

    def _delete(self, request: Request, where: Place, _: User) -> Answer:
        options = _delete_options(request)
        said, _gone = self.api.delete(where.kind, where.namespace, where.name, options)
        warned = where.kind is kinds.JOB and "propagationPolicy" not in options
        return Answer(200, said, {"Warning": f'299 - "{_ORPHANS}"'} if warned else {})

    def _deletecollection(self, request: Request, where: Place, _: User) -> Answer:
        options, query = _delete_options(request), request.query
        found = self._reading.find(where.kind, where.namespace, {"limit": ""} | query)
        for thing in found["items"]:
            metadata = thing["metadata"]
            if self.api.store.get(where.kind, metadata.get("namespace", ""), metadata["name"]) is not None:
                self.api.delete(where.kind, metadata.get("namespace", ""), metadata["name"], options)
        return Answer(200, found)

    def _finalize(self, where: Place, body: dict[str, Any]) -> dict[str, Any]:
        thing = self.api.get(where.kind, "", where.name)
        thing["spec"]["finalizers"] = body.get("spec", {}).get("finalizers", [])
        if thing["metadata"].get("deletionTimestamp") and not thing["spec"]["finalizers"]:
            self.api.store.remove(where.kind, thing)
            return thing
        return self.api.store.put(where.kind, thing)


def _verb(request: Request, where: Place) -> str:
    if request.method == "GET" and not where.name:
        return "watch" if request.query.get("watch") in {"true", "True", "1"} else "list"
    if request.method == "DELETE" and not where.name:
        return "deletecollection"
    verbs = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    if request.method not in verbs:
        raise refusals.no_method()
    if not where.name and request.method in {"PUT", "PATCH"}:
        raise refusals.no_method()
    return verbs[request.method]


def _body(request: Request) -> Any:
    media = request.media_type or "application/json"
    if request.method != "PATCH" and media not in {"application/json", "application/yaml", "*/*"}:
        raise refusals.no_media_type(_READABLE)
    try:
        return yaml.safe_load(request.body) if media.endswith("yaml") else json.loads(request.body or b"null")
    except (ValueError, yaml.YAMLError) as why:
        raise bad_request(f"couldn't get version/kind; json parse error: {why}") from why


def _delete_options(request: Request) -> dict[str, Any]:
    options = _body(request) if request.body else {}
    named = {key: request.query[key] for key in ("propagationPolicy", "gracePeriodSeconds") if key in request.query}
    if "gracePeriodSeconds" in named:
        named["gracePeriodSeconds"] = int(named["gracePeriodSeconds"])
    return (options or {}) | named


def _writer(request: Request, subresource: str = "") -> Writer:
    manager = request.query.get("fieldManager") or request.headers.get("user-agent", "unknown").partition("/")[0]
    if len(manager) > 128:
        raise _options("fieldManager: Too long: may not be more than 128 bytes")
    return Writer(manager, "Update", subresource)


def _dry(request: Request) -> bool:
    asked = request.query.get("dryRun")
    if asked not in {None, "", "All"}:
        raise _options(f'dryRun: Unsupported value: "{asked}": supported values: "All"')
    return asked == "All"


def _options(why: str) -> Refused:
    return Refused(
        422,
        "Invalid",
        f'PatchOptions.meta.k8s.io "" is invalid: {why}',
        {"group": "meta.k8s.io", "kind": "PatchOptions"},
    )
