"""``Webservice`` and its three kinds. The local one runs: the scoring image in a container of this machine."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn, TypeVar

import httpx

from fleet.client.deployments.configuration import Aci, Aks, AksVersions, Configuration, Local, configured
from fleet.client.images.docker_engine import docker_engine
from fleet.client.local import service as services
from fleet.client.sdk import cloud
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.endpoint_versions import EndpointVersions
from fleet.client.sdk.exceptions import UserErrorException, WebserviceException, told_as
from fleet.client.sdk.inference_config import InferenceConfig
from fleet.client.sdk.model_version import ModelVersion, version_of
from fleet.client.sdk.service_finding import ServiceWords, Wanted, name_in
from fleet.client.sdk.service_folder import copy_source
from fleet.client.sdk.service_making import make, recorded
from fleet.client.sdk.service_rollout import RollsOut
from modules.names import ModuleRef, Slug, slug

_SHOWN: Final = 2000
_RUNNING, _DEPLOYING, _FAILED = "running", "deploying", "failed"

_Kind = TypeVar("_Kind", bound=Configuration)


def _from_arguments(kind: type[_Kind], given: tuple[Any, ...], named: dict[str, Any]) -> _Kind:
    """The configuration of arguments as Azure ML's method takes them: in its order, or by name."""
    if len(given) > len(kind.__struct_fields__):
        raise UserErrorException(
            f"more than {len(kind.__struct_fields__)} arguments", element="deploy_configuration", remedy="name them"
        )
    with told_as(UserErrorException):
        return configured(kind, dict(zip(kind.__struct_fields__, given, strict=False)) | named)


class Webservice:
    """A deployed service: ``Webservice(workspace, 'name')`` finds it, and is of the kind that it is.

    Raises:
        WebserviceException: there is none of this name.
    """

    compute_type = ""
    name: str
    workspace: Connection

    def __new__(cls, workspace: Connection, name: str) -> Any:
        if cls is not Webservice:
            return object.__new__(cls)
        if _is_here(workspace, name):
            return object.__new__(LocalWebservice)
        return object.__new__(_KINDS[cloud.kind_of(workspace, name)])

    def __init__(self, workspace: Connection, name: str) -> None:
        self.workspace, self.name = workspace, name

    @staticmethod
    def list(workspace: Connection, *filters: Any, **named: Any) -> "list[Webservice]":
        """The services of a workspace; filters as :class:`fleet.client.sdk.service_finding.Wanted` takes them."""
        wanted = Wanted(*filters, **named)
        elsewhere = [_KINDS[kind](workspace, name) for name, kind in cloud.every(workspace)]
        return wanted.among([*LocalWebservice.list(workspace), *elsewhere])

    @property
    def tags(self) -> dict[str, str]:
        return {}

    @property
    def properties(self) -> dict[str, str]:
        return {}

    @property
    def models(self) -> Sequence[ModelVersion]:
        """What it serves."""
        return ()

    def update_deployment_state(self) -> None:
        """Nothing to do: ``state`` is what the service is each time it is asked."""

    @classmethod
    def deserialize(cls, workspace: Connection, webservice_payload: dict[str, Any]) -> "Webservice":
        """The service that ``serialize`` told of, as it is now.

        Raises:
            WebserviceException: there is none of this name any more.
        """
        service: Webservice = Webservice(workspace, name_in(webservice_payload))
        return service

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self.workspace.name}, name={self.name})"


class _Elsewhere(RollsOut, ServiceWords, Webservice):
    """A service on a target of the fleet server, by a deployment configuration of one kind."""

    _configuration: ClassVar[type[Aci | Aks]]

    def __init__(self, workspace: Connection, name: str) -> None:
        cloud.kind_of(workspace, name)
        super().__init__(workspace, name)

    @classmethod
    def deploy_configuration(cls, *given: Any, **named: Any) -> Aci | Aks:
        """How it is to be deployed; arguments as :mod:`fleet.client.deployments.configuration` lists them.

        Raises:
            UserErrorException: one that nobody knows, out of bounds, or without meaning here.
        """
        return _from_arguments(cls._configuration, given, named)

    def update(
        self,
        models: Sequence[Any] | None = None,
        inference_config: InferenceConfig | None = None,
        wait: bool = False,
        **changes: Any,
    ) -> None:
        """Change models, script or settings (by the names of ``deploy_configuration``); what is left out stays."""
        self.change(models, inference_config, _from_arguments(self._configuration, (), changes), wait=wait)


class AciWebservice(_Elsewhere):
    """A service on a container host."""

    compute_type = cloud.ACI
    _configuration = Aci


class AksWebservice(_Elsewhere):
    """A service with the settings that Azure ML has for Kubernetes."""

    compute_type = cloud.AKS
    _configuration = Aks


class AksEndpoint(EndpointVersions, AksWebservice):
    """Several versions behind one address, each with its share of the requests."""

    compute_type = cloud.AKS_ENDPOINT
    _configuration = AksVersions


_KINDS: Final[dict[str, type[Webservice]]] = {
    one.compute_type: one for one in (AciWebservice, AksWebservice, AksEndpoint)
}


class LocalWebservice(Webservice):
    """A service in a container of this machine, at the loopback address, restricted as on a device.

    Raises:
        WebserviceException: there is none of this name, or the container engine does not answer.
    """

    compute_type = "Local"
    # Nobody else reaches the loopback address.
    auth_enabled = False
    token_auth_enabled = False

    def __init__(self, workspace: Connection, name: str) -> None:
        super().__init__(workspace, name)
        with self._service() as service:
            self.port = service.port

    @staticmethod
    def deploy_configuration(port: int | None = None) -> Local:
        """At this port, or any that is free.

        Raises:
            UserErrorException: it is no port.
        """
        return _from_arguments(Local, (), {"port": port})

    @classmethod
    def start(
        cls,
        workspace: Connection,
        name: str,
        models: Sequence[ModelVersion],
        inference: InferenceConfig | None,
        configuration: Local,
        overwrite: bool,
    ) -> "LocalWebservice":
        """As ``Model.deploy``, which calls it.

        Raises:
            WebserviceException: it cannot be started, or there is one that is not to be overwritten.
        """
        with told_as(WebserviceException):
            checked = slug(name, what="service name")
            if not overwrite and _is_here(workspace, checked):
                raise WebserviceException(
                    "there is a service of this name already",
                    element=name,
                    remedy="say overwrite=True, or delete() it; Webservice(workspace, name) is the one that is there",
                )
            resolved = inference.resolved(checked) if inference else None
            make(workspace, checked, models, resolved, configuration.port or services.free_port())
        return cls(workspace, checked)

    @staticmethod
    def list(workspace: Connection, *_: Any) -> "list[Webservice]":
        with told_as(WebserviceException), docker_engine() as engine, services.every(engine, workspace.url) as found:
            names = sorted(one.name for one in found)
        return [LocalWebservice(workspace, name) for name in names]

    @property
    def models(self) -> Sequence[ModelVersion]:
        with self._service() as service:
            return self._models(service.record)

    def serialize(self) -> dict[str, Any]:
        """What is known of it, as JSON takes it."""
        return {
            "name": self.name,
            "workspaceName": self.workspace.name,
            "computeType": self.compute_type,
            "state": self.state,
            "scoringUri": self.scoring_uri,
            "swaggerUri": self.swagger_uri,
            "port": self.port,
            "models": [one.id for one in self.models],
        }

    @property
    def scoring_uri(self) -> str:
        return f"http://{services.ADDRESS}:{self.port}/score"

    @property
    def swagger_uri(self) -> str:
        return f"http://{services.ADDRESS}:{self.port}/swagger.json"

    @property
    def state(self) -> str:
        """``running`` once it answers, ``deploying`` before, ``failed`` where its container has ended."""
        with self._service() as service:
            if service.exit_code() is not None:
                return _FAILED
            return _RUNNING if service.answers() else _DEPLOYING

    def wait_for_deployment(self, show_output: bool = False) -> None:
        """Return once it is ready.

        Raises:
            WebserviceException: it ended, or took too long; with the end of its log.
        """
        say: Callable[[str], None] = print if show_output else lambda _: None
        say(f"Waiting for {self.name} to be ready ...")
        with self._service() as service:
            service.await_ready()
        say(f"{self.name} is running at {self.scoring_uri}")

    def get_logs(self, num_lines: int = 5000, raw: bool = False) -> str:
        """The end of what it has printed."""
        with self._service() as service:
            return service.log_tail(num_lines)

    def run(self, input_data: Any) -> Any:
        """Ask it: text or bytes as they are, anything else as JSON; returns the answer's JSON.

        Raises:
            WebserviceException: it gives no answer, or answers that it failed.
        """
        body = input_data if isinstance(input_data, str | bytes) else json.dumps(input_data)
        with self._service() as service:
            try:
                answer = service.http.post("/score", content=body, headers={"Content-Type": "application/json"})
            except httpx.HTTPError as error:
                raise WebserviceException(
                    f"no answer: {str(error) or type(error).__name__}\n{service.log_tail(20)}",
                    element=self.scoring_uri,
                    remedy="wait_for_deployment() says when it is ready",
                ) from error
        if answer.is_error:
            raise WebserviceException(
                f"it answers {answer.status_code}: {answer.text[:_SHOWN]}",
                element=self.scoring_uri,
                remedy="get_logs() has more",
            )
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def reload(self, wait: bool = False) -> None:
        """Copy the script and what lies beside it again, and start with them; the image stays as it is.

        Raises:
            WebserviceException: there is no script, or it is not where it was.
        """
        with self._service() as service:
            config = recorded(service.record)
            if config is None:
                raise WebserviceException(
                    "it has no script that could be read again", element=self.name, remedy="update(models=[...])"
                )
            copy_source(Path(service.record["folder"]), config)
            service.restart()
        if wait:
            self.wait_for_deployment()

    def update(
        self,
        models: Sequence[Any] | None = None,
        deployment_config: Local | None = None,
        wait: bool = False,
        inference_config: InferenceConfig | None = None,
    ) -> None:
        """Make it anew with other models, another script or another port; what is None stays as it is.

        Raises:
            WebserviceException: it cannot be started.
        """
        with self._service() as service:
            record = service.record
        port = deployment_config.port if deployment_config is not None and deployment_config.port else record["port"]
        with told_as(WebserviceException):
            config = inference_config.resolved(Slug(self.name)) if inference_config else recorded(record)
            known = [one.known for one in models] if models is not None else self._models(record)
            image = "" if inference_config else record["image"]
            make(self.workspace, Slug(self.name), known, config, port, image=image)
        self.port = port
        if wait:
            self.wait_for_deployment()

    def delete(self) -> None:
        """End it and remove what was laid out for it; the models stay registered."""
        with self._service() as service:
            service.remove()
            shutil.rmtree(service.record["folder"], ignore_errors=True)

    def get_keys(self) -> NoReturn:
        """Nobody is asked for keys at the loopback address.

        Raises:
            WebserviceException: always.
        """
        raise WebserviceException(
            "a service of this machine has no keys", element=self.name, remedy="ask auth_enabled first"
        )

    get_token = regen_key = get_keys

    def add_tags(self, *_: Any) -> NoReturn:
        """It is a container of this machine, which keeps no words.

        Raises:
            WebserviceException: always.
        """
        raise WebserviceException(
            "a service of this machine keeps no tags", element=self.name, remedy="give them to its models"
        )

    remove_tags = add_properties = add_tags

    def _models(self, record: dict[str, Any]) -> Sequence[ModelVersion]:
        with self.workspace.fleet() as fleet:
            return [version_of(fleet.module(ModuleRef.parse(ref))) for ref in record["models"]]

    @contextmanager
    def _service(self) -> Iterator[services.Service]:
        """The container, for the block."""
        with (
            told_as(WebserviceException),
            docker_engine() as engine,
            services.every(engine, self.workspace.url, self.name) as found,
        ):
            if not found:
                raise WebserviceException(
                    f"WebserviceNotFound: there is no service {self.name} on this machine",
                    element=self.workspace.url,
                    remedy="deploy it: Model.deploy",
                )
            yield found[0]


def _is_here(workspace: Connection, name: str) -> bool:
    with (
        told_as(WebserviceException),
        docker_engine() as engine,
        services.every(engine, workspace.url, name) as found,
    ):
        return bool(found)
