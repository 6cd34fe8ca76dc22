"""Packages with a trigger, under the names of ``azureml.contrib.functions``.

HTTP is the package of ``Model.package``. A blob is a file in a watched folder; a queue of a service bus is a topic of a
broker that speaks MQTT. The trigger is in the image (:mod:`modules.triggers`).
"""

import difflib
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import UserErrorException, told_as
from fleet.client.sdk.inference_config import InferenceConfig
from fleet.client.sdk.model import Model, known_models
from fleet.client.sdk.package import ModelPackage
from fleet.client.sdk.package_making import NAME
from modules.triggers.paths import Paths
from modules.triggers.settings import FOLDER, TOPIC, address, check_topics

HTTP_TRIGGER: Final = "http"
BLOB_TRIGGER: Final = "blob"
SERVICE_BUS_QUEUE_TRIGGER: Final = "service_bus_queue"
_INPUT: Final = "input/{name}.json"
_OUTPUT: Final = "output/{name}_out.json"


def package(
    workspace: Connection,
    models: Sequence[Model],
    inference_config: InferenceConfig | None,
    generate_dockerfile: bool = False,
    functions_enabled: bool = False,
    trigger: str | None = None,
    **kwargs: Any,
) -> ModelPackage:
    """A package whose image waits for what ``trigger`` names; ``kwargs`` are that trigger's own.

    Raises:
        UserErrorException: no such trigger, or an argument that it has not got.
    """
    if trigger is not None and trigger not in _VARIABLES:
        raise UserErrorException(
            f"{trigger!r} is no trigger", element="trigger", remedy=f"one of {', '.join(sorted(_VARIABLES))}"
        )
    if not functions_enabled and (trigger is not None or kwargs):
        raise UserErrorException(
            "a trigger has an effect only with functions_enabled",
            element="functions_enabled",
            remedy="say functions_enabled=True, or leave the trigger out",
        )
    with told_as(UserErrorException):
        variables = variables_of(trigger or HTTP_TRIGGER, kwargs)
        resolved = inference_config.resolved(NAME) if inference_config else None
    return ModelPackage.begin(
        workspace, known_models(models), resolved, dockerfile=generate_dockerfile, trigger=variables
    )


def package_http(
    workspace: Connection,
    models: Sequence[Model],
    inference_config: InferenceConfig | None,
    generate_dockerfile: bool = False,
    auth_level: str | None = None,
) -> ModelPackage:
    """Answers at port 5001, and asks nobody for a key: ``auth_level`` is ``anonymous``.

    Raises:
        UserErrorException: as :func:`package`.
    """
    return package(
        workspace, models, inference_config, generate_dockerfile, functions_enabled=True, trigger=HTTP_TRIGGER,
        auth_level=auth_level,
    )  # fmt: skip


def package_blob(
    workspace: Connection,
    models: Sequence[Model],
    inference_config: InferenceConfig | None,
    generate_dockerfile: bool = False,
    input_path: str | None = None,
    output_path: str | None = None,
) -> ModelPackage:
    """Scores each file ``input_path``, as ``input/{name}.json``, and writes its answer as ``output_path``.

    Raises:
        UserErrorException: as :func:`package`.
    """
    return package(
        workspace, models, inference_config, generate_dockerfile, functions_enabled=True, trigger=BLOB_TRIGGER,
        input_path=input_path, output_path=output_path,
    )  # fmt: skip


def package_service_bus_queue(
    workspace: Connection,
    models: Sequence[Model],
    inference_config: InferenceConfig | None,
    generate_dockerfile: bool = False,
    input_queue_name: str | None = None,
    output_queue_name: str | None = None,
) -> ModelPackage:
    """Scores each message of one topic and publishes its answer at another.

    Raises:
        UserErrorException: as :func:`package`.
    """
    return package(
        workspace, models, inference_config, generate_dockerfile, functions_enabled=True,
        trigger=SERVICE_BUS_QUEUE_TRIGGER,
        input_queue_name=input_queue_name, output_queue_name=output_queue_name,
    )  # fmt: skip


def variables_of(trigger: str, given: dict[str, Any]) -> dict[str, str]:
    """The variables of the trigger's program; none for HTTP, which needs none.

    Raises:
        Invalid, BadSettings, UserErrorException: an argument that it has not got, or that cannot be used.
    """
    make = _VARIABLES[trigger]
    known = make.__code__.co_varnames[: make.__code__.co_kwonlyargcount]
    for name in given.keys() - set(known):
        near = difflib.get_close_matches(name, known, n=1)
        raise UserErrorException(
            f"the trigger {trigger} has no such argument",
            element=name,
            remedy=f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}",
        )
    return make(**given)


def _http(*, auth_level: str | None = None) -> dict[str, str]:
    if auth_level not in (None, "anonymous"):
        raise UserErrorException(
            f"no key is made for an image, so {auth_level!r} would let nobody in",
            element="auth_level",
            remedy="leave it out; keys are in a file that EDGEFLEET_ACCESS_FILE names when the image is run, or deploy "
            "the model with auth_enabled=True",
        )
    return {}


def _blob(*, input_path: str | None = None, output_path: str | None = None) -> dict[str, str]:
    paths = Paths(input_path or _INPUT, output_path or _OUTPUT)
    return {
        "EDGEFLEET_TRIGGER": FOLDER,
        "EDGEFLEET_TRIGGER_INPUT": paths.input,
        "EDGEFLEET_TRIGGER_OUTPUT": paths.output,
    }


def _service_bus_queue(
    *,
    input_queue_name: str | None = None,
    output_queue_name: str | None = None,
    connection_string: str | None = None,
) -> dict[str, str]:
    """``connection_string`` is a broker's address; without it, it is said when the image is run."""
    check_topics(input_queue_name or "", output_queue_name or "")
    if connection_string:
        address(connection_string)
    # The same in each version of a package, so that a newer one goes on with what the broker has kept.
    client = hashlib.sha256(f"{input_queue_name}\0{output_queue_name}".encode()).hexdigest()[:16]
    return {
        "EDGEFLEET_TRIGGER": TOPIC,
        "EDGEFLEET_TRIGGER_INPUT": str(input_queue_name),
        "EDGEFLEET_TRIGGER_OUTPUT": str(output_queue_name),
        "EDGEFLEET_TRIGGER_CLIENT": f"edgefleet-{client}",
    } | ({"EDGEFLEET_TRIGGER_BROKER": connection_string} if connection_string else {})


_VARIABLES: Final[dict[str, Callable[..., dict[str, str]]]] = {
    HTTP_TRIGGER: _http,
    BLOB_TRIGGER: _blob,
    SERVICE_BUS_QUEUE_TRIGGER: _service_bus_queue,
}
