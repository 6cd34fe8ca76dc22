"""Services that run elsewhere than on this machine: endpoints of the fleet server, under Azure ML's names."""

import contextlib
import json
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import msgspec

from fleet.client.answers import Endpoint
from fleet.client.api import Fleet
from fleet.client.deployments.configuration import Aci, Aks, AksVersions, Configuration
from fleet.client.deployments.endpoint_wish import KIND, EndpointWish, wished
from fleet.client.sdk import places
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import WebserviceException, told_as
from fleet.client.sdk.inference_config import InferenceConfig
from fleet.client.sdk.model_version import ModelVersion, version_of
from fleet.client.sdk.service_module import MODELS, module_of
from fleet.client.sdk.version_notes import Note, given, own, without_versions, written
from modules.names import ModuleRef, Slug, slot_name

ACI: Final = "ACI"
AKS: Final = "AKS"
AKS_ENDPOINT: Final = "AKSENDPOINT"
_ASK_AGAIN_S: Final = 1.0
_SHOWN: Final = 2000
_VERSION: Final = "v1"
# What stands still by need is in order, as far as whoever deployed it is concerned.
_STATES: Final = {
    "ready": "Healthy",
    "updating": "Transitioning",
    "failed": "Failed",
    "removing": "Deleting",
    "stopped": "Healthy",
}
_KEYS: Final = {"primary": "primary", "secondary": "secondary", "key1": "primary", "key2": "secondary"}
_ANSWERS_WITHIN_S: Final = 300.0
# How long a new key is waited for; an endpoint that does not come up at all lets nobody in anyway.
_KEY_WITHIN_S: Final = 60.0


class Service:
    """One endpoint; ``AciWebservice`` and ``AksWebservice`` are what scripts call it.

    Every method raises:
        WebserviceException: there is no such service, or the server refuses.
    """

    name: str
    workspace: Connection

    def found(self) -> Endpoint:
        """The endpoint as it stands."""
        with _told(), self.workspace.fleet() as fleet:
            return _existing(fleet, self.name, self.workspace)

    @property
    def scoring_uri(self) -> str | None:
        return self.found().url or None

    @property
    def swagger_uri(self) -> str | None:
        return self.found().swagger_url or None

    @property
    def state(self) -> str:
        """``Healthy``, ``Transitioning``, ``Failed`` or ``Deleting``."""
        return _STATES.get(self.found().state, "Transitioning")

    @property
    def error(self) -> str | None:
        """Why it is not ready, in one sentence."""
        return self.found().why or None

    @property
    def auth_enabled(self) -> bool:
        return bool(self.found().settings["auth"] == "key")

    @property
    def token_auth_enabled(self) -> bool:
        return bool(self.found().settings["auth"] == "token")

    @property
    def tags(self) -> dict[str, str]:
        return dict(self.found().settings["tags"])

    @property
    def properties(self) -> dict[str, str]:
        return given(self.found().settings["properties"])

    @property
    def models(self) -> list[ModelVersion]:
        one = self.found()
        with _told(), self.workspace.fleet() as fleet:
            return self._models(fleet, one.versions[one.default].module)

    @property
    def description(self) -> str:
        return str(self.found().settings["description"])

    def wait_for_deployment(self, show_output: bool = False) -> None:
        """Return once it is ready; with ``show_output`` each change is printed.

        Raises:
            WebserviceException: it failed; with the reason and the end of its log.
        """
        say: Callable[[str], None] = print if show_output else lambda _: None
        told = ""
        while (one := self.found()).state not in {"ready", "failed", "stopped"}:
            line = f"{self.name}: {one.state}. {one.why}"
            if line != told:
                say(line)
                told = line
            time.sleep(_ASK_AGAIN_S)  # HTTP has nothing to await; the server is asked once a second
        if one.state == "failed":
            raise WebserviceException(
                f"the deployment failed: {one.why}\n{self._log_or_nothing()}",
                element=self.name,
                remedy="get_logs() has more",
            )
        say(f"{self.name} is Healthy at {one.url}")

    def get_logs(self, num_lines: int = 2000, init: bool = False) -> str:
        """The last lines of each replica and of what stands before them."""
        with _told(), self.workspace.fleet() as fleet:
            found = fleet.endpoint_logs(slot_name(self.name), lines=min(num_lines, 2000))
        return "\n".join(f"{part}: {line}" for part, text in found.items() for line in text.rstrip("\n").split("\n"))

    def get_keys(self) -> tuple[str, str]:
        """The primary and the secondary key."""
        with _told(), self.workspace.fleet() as fleet:
            found = fleet.endpoint_keys(slot_name(self.name))
        return found["primary"], found["secondary"]

    def regen_key(self, key: str, set_key: str | None = None) -> tuple[str, str]:
        """Make the ``Primary`` or ``Secondary`` key anew, or set it; both keys, which let in from now on."""
        which = _KEYS.get(str(key).lower())
        if which is None:
            raise WebserviceException(f"{key!r} is not a key", element="key", remedy="say Primary or Secondary")
        with _told(), self.workspace.fleet() as fleet:
            found = fleet.change_endpoint_key(slot_name(self.name), which, set_key or "")
        with contextlib.suppress(TimeoutError):
            self._settle(_KEY_WITHIN_S)
        return found["primary"], found["secondary"]

    def get_token(self) -> tuple[str, datetime]:
        """A token, and the local time after which to fetch the next one; without a zone, as scripts compare it."""
        with _told(), self.workspace.fleet() as fleet:
            found = fleet.endpoint_token(slot_name(self.name))
        return found["token"], datetime.fromtimestamp(found["refresh_after"])  # noqa: DTZ006 - as theirs

    def run(self, input_data: Any) -> Any:
        """Ask it, with a key or token where it needs one: text or bytes as they are, anything else as JSON.

        Returns:
            The answer's JSON, or its text.
        """
        one = self.found()
        if not one.url:
            raise WebserviceException("it has no address yet", element=self.name, remedy="wait_for_deployment() first")
        bearer = {"key": lambda: self.get_keys()[0], "token": lambda: self.get_token()[0]}.get(one.settings["auth"])
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {bearer()}"} if bearer else {}
        body = input_data if isinstance(input_data, str | bytes) else json.dumps(input_data)
        trusted = ssl.create_default_context()
        if one.settings["certificate"]:
            trusted.load_verify_locations(cadata=one.settings["certificate"])  # which nobody else may have signed
        try:
            answer = httpx.post(one.url, content=body, headers=headers, timeout=_ANSWERS_WITHIN_S, verify=trusted)
        except httpx.HTTPError as error:
            raise WebserviceException(
                f"no answer: {str(error) or type(error).__name__}", element=one.url, remedy="see its state and error"
            ) from error
        if answer.is_error:
            raise WebserviceException(
                f"it answers {answer.status_code}: {answer.text[:_SHOWN]}",
                element=one.url,
                remedy="get_logs() has more",
            )
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def change(
        self,
        models: Sequence[Any] | None,
        inference: InferenceConfig | None,
        configuration: Aci | Aks,
        *,
        wait: bool,
    ) -> None:
        """What ``update`` of both kinds does: what was said changes, and no request fails meanwhile."""
        with _told(), self.workspace.fleet() as fleet:
            one = _existing(fleet, self.name, self.workspace)
            wish = wished(configuration, change=True, where="update")
            request: dict[str, Any] = {"settings": _settings(wish, one), "generation": one.generation}
            if wish.certificate_key is not None:
                request["certificate_key"] = wish.certificate_key
            served = one.versions[one.default]
            version = {"module": served.module, "replicas": wish.replicas or served.replicas}
            if models is not None or inference is not None:
                known = [model.known for model in models] if models is not None else self._models(fleet, served.module)
                version["module"] = self._module(known, inference)
            request["versions"] = {one.default: version} | {
                name: {"module": other.module, "weight": other.weight, "replicas": other.replicas}
                for name, other in one.versions.items()
                if name != one.default
            }
            fleet.change_endpoint(slot_name(self.name), request)
            _set_keys(fleet, self.name, wish)
        if wait:
            self.wait_for_deployment()

    def serialize(self) -> dict[str, Any]:
        """What is known of it, as JSON takes it."""
        one = self.found()
        return {
            "name": one.name,
            "workspaceName": self.workspace.name,
            "computeType": _kind(one),
            "computeName": one.target,
            "state": _STATES.get(one.state, "Transitioning"),
            "error": one.why,
            "createdTime": datetime.fromtimestamp(one.created, UTC).isoformat(),
            "createdBy": one.by,
            "scoringUri": one.url,
            "swaggerUri": one.swagger_url,
            "authEnabled": one.settings["auth"] == "key",
            "tokenAuthEnabled": one.settings["auth"] == "token",
            "description": one.settings["description"],
            "tags": dict(one.settings["tags"]),
            "properties": given(one.settings["properties"]),
        }

    def delete(self) -> None:
        """Have it taken away; the models stay registered."""
        with _told(), self.workspace.fleet() as fleet:
            fleet.remove_endpoint(slot_name(self.name))

    def _settle(self, within_s: float) -> None:
        """Return once the last change is in force.

        Raises:
            TimeoutError: it takes longer.
        """
        end = time.monotonic() + within_s
        while self.found().state == "updating":
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(_ASK_AGAIN_S)

    def _module(self, known: Sequence[ModelVersion], inference: InferenceConfig | None) -> str:
        checked = slot_name(self.name)
        resolved = inference.resolved(checked) if inference else None
        with self.workspace.progress() as step:
            return str(module_of(self.workspace, checked, known, resolved, step))

    @staticmethod
    def _models(fleet: Fleet, module: str) -> list[ModelVersion]:
        """The models that are in the service's module."""
        ref = ModuleRef.parse(module)
        found = fleet.module(ref)
        manifest = found.manifest
        inside = (manifest.properties.get(MODELS, "") if manifest is not None else "") or module
        return [version_of(fleet.module(ModuleRef.parse(one))) for one in inside.split(",")]

    def _log_or_nothing(self) -> str:
        try:
            return self.get_logs(50)
        except WebserviceException as error:
            return f"(no log: {error.message})"


def deploy(
    workspace: Connection,
    name: str,
    models: Sequence[ModelVersion],
    inference: InferenceConfig | None,
    configuration: Configuration | None,
    target: Any,
    *,
    overwrite: bool,
) -> None:
    """Deploy to a container host; without a configuration as an ACI service of Azure ML's defaults.

    Raises:
        WebserviceException: there is one of this name already, or it cannot be deployed; the message says why.
    """
    made = configuration if isinstance(configuration, Aci | Aks) else Aci()
    with _told():
        checked = slot_name(name)
        wish = wished(made)
        with workspace.fleet() as fleet:
            before = fleet.endpoint(checked)
            if before is not None and not overwrite:
                raise WebserviceException(
                    "there is a service of this name already",
                    element=name,
                    remedy="say overwrite=True, or delete() it; Webservice(workspace, name) is the one that is there",
                )
            place = places.chosen(fleet, target or getattr(made, "compute_target_name", None))
            resolved = inference.resolved(checked) if inference else None
            with workspace.progress() as step:
                module = str(module_of(workspace, checked, models, resolved, step))
            settings = _settings(wish, before, kind=_kind_of(made))
            version = {"module": module, "replicas": wish.replicas or 1}
            settings["properties"] = without_versions(settings["properties"])
            first = before.default if before is not None else _VERSION
            if isinstance(made, AksVersions):
                first = made.version_name or first
                settings["properties"] |= written({first: _first(made)})
            if before is None:
                request: dict[str, Any] = {"name": checked, "target": place, "versions": {first: version}}
                request |= {"primary_key": wish.primary_key, "secondary_key": wish.secondary_key}
                request |= {"settings": settings, "certificate_key": wish.certificate_key or ""}
                fleet.create_endpoint(request)
            else:
                change = {"versions": {first: version}, "default": first, "settings": settings}
                _overwrite(fleet, before, place, change, wish)
    print(f"{name} is being deployed to {place}")


def _overwrite(fleet: Fleet, before: Endpoint, place: Slug, request: dict[str, Any], wish: EndpointWish) -> None:
    """An endpoint of this name, made what it is to be now; what serves it goes on until that is ready."""
    if place != before.target:
        raise WebserviceException(
            f"the service runs on {before.target}, and a service does not move to {place}",
            element=before.name,
            remedy="delete() it first, or deploy under another name",
        )
    more: dict[str, Any] = {"generation": before.generation}
    if wish.certificate_key is not None:
        more["certificate_key"] = wish.certificate_key
    fleet.change_endpoint(slot_name(before.name), request | more)
    _set_keys(fleet, before.name, wish)


def _set_keys(fleet: Fleet, name: str, wish: EndpointWish) -> None:
    for which, key in (("primary", wish.primary_key), ("secondary", wish.secondary_key)):
        if key:
            fleet.change_endpoint_key(slot_name(name), which, key)


def kind_of(workspace: Connection, name: str) -> str:
    """``ACI`` or ``AKS``.

    Raises:
        WebserviceException: there is no such service.
    """
    with _told(), workspace.fleet() as fleet:
        return _kind(_existing(fleet, name, workspace))


def every(workspace: Connection) -> list[tuple[str, str]]:
    """The services that run elsewhere: name and kind of each."""
    with _told(), workspace.fleet() as fleet:
        return [(one.name, _kind(one)) for one in fleet.endpoints()]


def _settings(wish: EndpointWish, before: Endpoint | None, *, kind: str = "") -> dict[str, Any]:
    """The settings to ask for; properties with what the SDK keeps there."""
    known = dict(before.settings["properties"]) if before is not None else {}
    kept = own(known) | {KIND: kind or known.get(KIND, ACI)}
    said = wish.settings.get("properties")
    return wish.settings | {"properties": (known if said is None else said) | kept}


def _kind_of(made: Aci | Aks) -> str:
    if isinstance(made, AksVersions):
        return AKS_ENDPOINT
    return AKS if isinstance(made, Aks) else ACI


def _first(made: AksVersions) -> Note:
    """What is known of the first version: what was said of the endpoint."""
    said = {"description": made.description or "", "tags": made.tags or {}, "properties": made.properties or {}}
    return msgspec.convert({"traffic_percentile": made.traffic_percentile} | said, Note)


def _kind(endpoint: Endpoint) -> str:
    return str(endpoint.settings["properties"].get(KIND, ACI))


def _existing(fleet: Fleet, name: str, workspace: Connection) -> Endpoint:
    found = fleet.endpoint(slot_name(name))
    if found is None:
        raise WebserviceException(
            f"WebserviceNotFound: there is no service {name}", element=workspace.url, remedy="deploy it: Model.deploy"
        )
    return found


@contextmanager
def _told() -> Iterator[None]:
    with told_as(WebserviceException):
        yield
