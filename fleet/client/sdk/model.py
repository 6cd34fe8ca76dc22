"""``Model``: registered, found, listed, downloaded, deployed, under the names and arguments of Azure ML's SDK."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from fleet.client.answers import Module
from fleet.client.deployments.configuration import Configuration, Local
from fleet.client.publishing import pack
from fleet.client.publishing.download import download
from fleet.client.sdk import cloud, registry
from fleet.client.sdk.connection import Connection, asked
from fleet.client.sdk.exceptions import ModelNotFoundException, UserErrorException, WebserviceException, told_as
from fleet.client.sdk.inference_config import InferenceConfig
from fleet.client.sdk.model_version import ModelVersion, version_of
from fleet.client.sdk.package import ModelPackage
from fleet.client.sdk.package_making import NAME
from fleet.client.sdk.profile import ModelProfile, requests_of
from fleet.client.sdk.registering import Registration, framework_named, register
from fleet.client.sdk.resource_configuration import ResourceConfiguration
from fleet.client.sdk.webservice import LocalWebservice, Webservice
from fleet.client.sdk.workspace_file import described
from modules.names import slug

__all__ = ["InferenceConfig", "Model", "ModelPackage", "ModelProfile"]

# Where a script on this machine finds models that it was not given: as in Azure ML.
_CACHE: Final = "azureml-models"


class Model:
    """One version of a model: ``Model(workspace, 'name')`` is the newest, ``version=`` or ``id='name:1'`` another.

    Raises:
        ModelNotFoundException: there is none, or none with these tags and properties.
        WorkspaceException: the fleet server is away, or refuses us.
    """

    class Framework:
        """What a model was made with. ONNX is served without code; CUSTOM never is."""

        CUSTOM = "Custom"
        ONNX = "Onnx"
        TENSORFLOW = "TensorFlow"
        SCIKITLEARN = "ScikitLearn"

    def __init__(
        self,
        workspace: Connection,
        name: str | None = None,
        id: str | None = None,
        tags: registry.Filter = None,
        properties: registry.Filter = None,
        version: int | str | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
    ) -> None:
        if id is not None:
            name, _, of_id = id.partition(":")
            version = of_id or version
        if not name:
            raise UserErrorException("neither a name nor an id", element="Model", remedy="Model(workspace, 'name')")
        wanted = framework_named(model_framework)
        with told_as(WebserviceException), asked(workspace) as fleet:
            if version is not None or not (tags or properties or run_id or wanted):
                candidates: Any = [registry.find(workspace, fleet, name, version)]
            else:
                candidates = registry.every(workspace, fleet, name=name)
            for module in candidates:
                self._take(workspace, module)
                if self._is(tags, properties, run_id, wanted):
                    return
        raise ModelNotFoundException(
            f"there is no model {name} with these tags and properties", element=workspace.url, remedy="Model.list"
        )

    @classmethod
    def _of(cls, workspace: Connection, module: Module) -> Self:
        model = object.__new__(cls)
        model._take(workspace, module)
        return model

    def _take(self, workspace: Connection, module: Module) -> None:
        known = version_of(module)
        self.workspace, self.known = workspace, known
        self.name, self.version, self.id, self.signed = known.name, known.version, known.id, known.signed
        self.tags, self.properties, self.description = known.tags, known.properties, known.description
        self.model_framework, self.model_framework_version = known.model_framework, known.model_framework_version
        self.run_id, self.created_time = known.run_id, known.created_time
        self.resource_configuration = known.resource_configuration
        self.ref = known.ref
        self.url = f"{workspace.url}/api/v1/modules/{self.ref.team}/{self.ref.name}/{self.ref.version}"

    def _is(
        self, tags: registry.Filter, properties: registry.Filter, run_id: str | None, framework: str | None
    ) -> bool:
        return (
            registry.has(self.tags, tags, what="tags")
            and registry.has(self.properties, properties, what="properties")
            and run_id in (None, self.run_id)
            and framework in (None, self.model_framework)
        )

    def __repr__(self) -> str:
        return f"Model(workspace={self.workspace.name}, name={self.name}, id={self.id}, version={self.version})"

    @staticmethod
    def register(
        workspace: Connection,
        model_path: str | os.PathLike[str],
        model_name: str,
        tags: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        description: str | None = None,
        datasets: Sequence[Any] | None = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: Collection[str] | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: ResourceConfiguration | None = None,
        run_id: str | None = None,
    ) -> "Model":
        """Register a file, or a folder of files, as the next version of ``model_name``.

        An ONNX file is checked, and proved with ``sample_input_dataset`` (a request's JSON, or the path of a file with
        it) or random numbers. Anything else is kept as the files that it is, for a script to open.

        Raises:
            ModelPathNotFoundException: there is no such file.
            WebserviceException: it cannot be registered; the message says why.
        """
        for name, value in (("datasets", datasets), ("sample_output_dataset", sample_output_dataset)):
            if value is not None and not (isinstance(value, list | tuple) and not value):
                raise UserErrorException(
                    "this argument has no effect here: a fleet keeps no datasets",
                    element=name,
                    remedy="leave it out, or name the data set in tags",
                )
        what = Registration(
            path=Path(model_path), name=model_name, tags=tags, properties=properties, description=description,
            framework=framework_named(model_framework), framework_version=model_framework_version,
            child_paths=child_paths, sample_input=sample_input_dataset, resources=resource_configuration, run_id=run_id,
        )  # fmt: skip
        print(f"Registering model {model_name}")
        with told_as(WebserviceException):
            return Model._of(workspace, register(workspace, what))

    @staticmethod
    def list(
        workspace: Connection,
        name: str | None = None,
        tags: registry.Filter = None,
        properties: registry.Filter = None,
        run_id: str | None = None,
        latest: bool = False,
        framework: str | None = None,
    ) -> "list[Model]":
        """The models with these tags (``['key', ['key', 'value']]``) and properties, newest versions first."""
        wanted = framework_named(framework)
        with told_as(WebserviceException), asked(workspace) as fleet:
            found = [Model._of(workspace, one) for one in registry.every(workspace, fleet, name=name, latest=latest)]
        return [one for one in found if one._is(tags, properties, run_id, wanted)]  # noqa: SLF001  its own

    def download(self, target_dir: str | os.PathLike[str] = ".", exist_ok: bool = False) -> str:
        """Write the model's files below ``target_dir``, each checked against its digest.

        Returns:
            The path of the file, or of the folder where there are several.

        Raises:
            WebserviceException: a file is there already, unless ``exist_ok``; or the server sent other bytes.
        """
        folder = Path(target_dir)
        with told_as(WebserviceException), asked(self.workspace) as fleet, self.workspace.progress() as step:
            written = download(self.ref, fleet, folder, step, below=pack.MODEL, overwrite=exist_ok)
        tops = {folder / place.relative_to(folder).parts[0] for place in written}
        return str(tops.pop() if len(tops) == 1 else folder)

    def delete(self) -> None:
        """Take this version out of the server and out of this user's workspace, unless something uses it."""
        with told_as(WebserviceException), asked(self.workspace) as fleet:
            fleet.remove_module(self.ref)
        self.workspace.packed.forget_module(self.ref)

    @staticmethod
    def deploy(
        workspace: Connection,
        name: str,
        models: "Sequence[Model]",
        inference_config: InferenceConfig | None = None,
        deployment_config: Configuration | None = None,
        deployment_target: Any = None,
        overwrite: bool = False,
        show_output: bool = False,
    ) -> Webservice:
        """Start a service with these models, and with the script that the inference configuration names.

        Without one a single model is served as it is. Where it runs is what the deployment configuration is of.

        Raises:
            WebserviceException: it cannot be deployed, or there is one of this name and it is not to be overwritten.
        """
        known = known_models(models)
        if not isinstance(deployment_config, Local):
            cloud.deploy(
                workspace, name, known, inference_config, deployment_config, deployment_target, overwrite=overwrite
            )
            elsewhere: Any = Webservice(workspace, name)
            if show_output:
                elsewhere.wait_for_deployment(show_output=True)
            deployed: Webservice = elsewhere
            return deployed
        service = LocalWebservice.start(workspace, name, known, inference_config, deployment_config, overwrite)
        if show_output:
            service.wait_for_deployment(show_output=True)
        return service

    @staticmethod
    def package(
        workspace: Connection,
        models: "Sequence[Model]",
        inference_config: InferenceConfig | None = None,
        generate_dockerfile: bool = False,
        image_name: str | None = None,
        image_label: str | None = None,
    ) -> ModelPackage:
        """Models, script and environment in one image, which answers at port 5001; or the files that it is built from.

        With ``generate_dockerfile`` name and label stand in the command that the files' README.txt has for them.

        Raises:
            UserErrorException: an argument cannot be used. All else is raised by ``wait_for_creation``.
        """
        known = known_models(models)
        with told_as(UserErrorException):
            resolved = inference_config.resolved(image_name or NAME) if inference_config else None
        return ModelPackage.begin(
            workspace, known, resolved, dockerfile=generate_dockerfile, name=image_name, label=image_label
        )

    @staticmethod
    def profile(
        workspace: Connection,
        profile_name: str,
        models: "Sequence[Model]",
        inference_config: InferenceConfig | None = None,
        input_data: Any = None,
        input_dataset: Any = None,
        cpu: float | None = None,
        memory_in_gb: float | None = None,
        description: str | None = None,
    ) -> ModelProfile:
        """Measure in containers of this machine how much processor and memory these models need.

        ``input_data`` is the text of a request, or a list of such texts, and so is ``input_dataset``; without either
        the script's own example is asked, or random numbers of a graph. ``cpu`` and ``memory_in_gb`` are the most.

        Raises:
            UserErrorException: an argument cannot be used. All else is raised by ``wait_for_profiling``.
        """
        known = known_models(models)
        requests = requests_of(input_data if input_data is not None else input_dataset)
        with told_as(UserErrorException):
            slug(profile_name, what="profile name")
            resolved = inference_config.resolved(profile_name) if inference_config else None
        return ModelProfile(
            workspace, profile_name, known, resolved, requests,
            cpu=cpu, memory_in_gb=memory_in_gb, description=description or "",
        )  # fmt: skip

    def _as_signed(self, *_: Any, **__: Any) -> NoReturn:
        """What was registered is what the team signs, its tags and properties with it.

        Raises:
            WebserviceException: always.
        """
        raise WebserviceException(
            "a registered version never changes: its tags, properties and description are signed with it",
            element=self.id,
            remedy="register it again as the next version: Model.register(..., tags=..., properties=...)",
        )

    add_tags = remove_tags = add_properties = update = update_tags_properties = _as_signed

    def serialize(self) -> dict[str, Any]:
        """What is known of it, as JSON takes it."""
        return {
            "name": self.name,
            "id": self.id,
            "version": self.version,
            "workspaceName": self.workspace.name,
            "framework": self.model_framework,
            "frameworkVersion": self.model_framework_version,
            "createdTime": self.created_time.isoformat() if self.created_time else None,
            "description": self.description,
            "runId": self.run_id,
            "signed": self.signed,
            "tags": dict(self.tags),
            "properties": dict(self.properties),
            "url": self.url,
        }

    @classmethod
    def deserialize(cls, workspace: Connection, model_payload: dict[str, Any]) -> Self:
        """The model that :meth:`serialize` told of, as it is now.

        Raises:
            ModelNotFoundException: there is no such model any more.
        """
        return cls(workspace, id=_id_in(model_payload))

    @staticmethod
    def get_model_path(model_name: str, version: int | None = None, _workspace: Connection | None = None) -> str:
        """Where the model's file or folder is on this machine, below ``azureml-models``; fetched if it is not there.

        In an entry script ``azureml.core.model`` has the same, for the files that the service was given.

        Raises:
            ModelNotFoundException: there is no such model.
        """
        if version is not None and (place := _only(Path(_CACHE, model_name, str(version)))):
            return place
        model = Model(_workspace or Connection(described()), model_name, version=version)
        folder = Path(_CACHE, model_name, str(model.version))
        return _only(folder) or model.download(folder)


def known_models(models: Sequence[Model]) -> list[ModelVersion]:
    """What is known of each.

    Raises:
        UserErrorException: something else is among them.
    """
    if not all(isinstance(one, Model) for one in models):
        raise UserErrorException("these are no models", element="models", remedy="give a list: [model]")
    return [one.known for one in models]


def _id_in(payload: dict[str, Any]) -> str:
    found = payload.get("id") if isinstance(payload, dict) else None
    if not isinstance(found, str):
        raise UserErrorException("this is no model's", element="model_payload", remedy="give what serialize() returned")
    return found


def _only(folder: Path) -> str:
    """The one thing in a folder, or the folder where it has several; empty where there is nothing."""
    inside = list(folder.iterdir()) if folder.is_dir() else []
    return str(inside[0] if len(inside) == 1 else folder) if inside else ""
