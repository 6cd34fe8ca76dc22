"""Azure ML's ``deploymentconfig.json``, read as it is: ``computeType`` LOCAL, ACI or AKS, and each key in its place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client.deployments.configuration import Aci, Aks, Configuration, Local, configured, unknown
from modules.canonical import UNREADABLE
from modules.errors import Invalid

LIMIT: Final = 1 << 20
KINDS: Final[dict[str, type[Configuration]]] = {"local": Local, "aci": Aci, "aks": Aks}
_BOTH: Final = {
    "containerResourceRequirements.cpu": "cpu_cores",
    "containerResourceRequirements.memoryInGB": "memory_gb",
    "containerResourceRequirements.gpu": "gpu_cores",
    "authEnabled": "auth_enabled",
    "appInsightsEnabled": "enable_app_insights",
    "dataCollection.storageEnabled": "collect_model_data",
    "keys.primaryKey": "primary_key",
    "keys.secondaryKey": "secondary_key",
    "tags": "tags",
    "properties": "properties",
    "description": "description",
}
# What each key of the file is called among the arguments of deploy_configuration.
KEYS: Final[dict[str, dict[str, str]]] = {
    "local": {"port": "port"},
    "aci": {key: name for key, name in _BOTH.items() if name != "gpu_cores"}
    | {
        "location": "location",
        "sslEnabled": "ssl_enabled",
        "sslCertificate": "ssl_cert_pem_file",
        "sslKey": "ssl_key_pem_file",
        "cname": "ssl_cname",
        "dnsNameLabel": "dns_name_label",
    },
    "aks": _BOTH
    | {
        "autoScaler.autoscaleEnabled": "autoscale_enabled",
        "autoScaler.minReplicas": "autoscale_min_replicas",
        "autoScaler.maxReplicas": "autoscale_max_replicas",
        "autoScaler.refreshPeriodInSeconds": "autoscale_refresh_seconds",
        "autoScaler.targetUtilization": "autoscale_target_utilization",
        "containerResourceRequirements.cpuLimit": "cpu_cores_limit",
        "containerResourceRequirements.memoryInGBLimit": "memory_gb_limit",
        "tokenAuthEnabled": "token_auth_enabled",
        "scoringTimeoutMs": "scoring_timeout_ms",
        "maxConcurrentRequestsPerContainer": "replica_max_concurrent_requests",
        "maxQueueWaitMs": "max_request_wait_time",
        "numReplicas": "num_replicas",
        "gpuCores": "gpu_cores",
        "livenessProbeRequirements.periodSeconds": "period_seconds",
        "livenessProbeRequirements.initialDelaySeconds": "initial_delay_seconds",
        "livenessProbeRequirements.timeoutSeconds": "timeout_seconds",
        "livenessProbeRequirements.successThreshold": "success_threshold",
        "livenessProbeRequirements.failureThreshold": "failure_threshold",
        "namespace": "namespace",
        "computeTargetName": "compute_target_name",
    },
}
_KIND: Final = "computeType"


def read_deployment_configuration(file: Path) -> Configuration:
    """What the file says. Files that it names are sought beside it.

    Raises:
        Invalid: it cannot be read; or as :func:`fleet.client.deployments.configuration.configured`, by the file's keys.
    """
    document = _decode(file)
    said = document.pop(_KIND, None)
    kind = str(said).lower()
    if kind not in KINDS:
        raise Invalid(
            f"{said!r} is no place to run" if said is not None else "it does not say where to run",
            element=f"{file}: {_KIND}",
            remedy="write LOCAL, ACI or AKS",
        )
    names, given, called = KEYS[kind], {}, {}
    sections = {key.partition(".")[0] for key in names if "." in key}
    for key, value in _leaves(document, sections, f"{file}"):
        if key not in names:
            nearest = unknown(key, names)
            raise Invalid(nearest.message, element=f"{file}: {key}", remedy=nearest.remedy)
        given[names[key]], called[names[key]] = value, f"{file}: {key}"
    # With theirs, 0 replicas mean that their number is not fixed.
    if given.get("num_replicas") == 0:
        given.pop("num_replicas")
    for name in ("ssl_cert_pem_file", "ssl_key_pem_file"):
        if isinstance(given.get(name), str) and (file.parent / given[name]).is_file():
            given[name] = str(file.parent / given[name])
    return configured(KINDS[kind], given, where=called)


def _leaves(document: dict[str, Any], sections: set[str], where: str) -> Iterator[tuple[str, Any]]:
    """The values, each under its key, or its section's and its own."""
    for key, value in document.items():
        if key not in sections or value is None:
            yield key, value
        elif isinstance(value, dict):
            yield from ((f"{key}.{inner}", one) for inner, one in value.items())
        else:
            raise Invalid(
                "this is not a JSON object", element=f"{where}: {key}", remedy="write the keys of this part in {}"
            )


def _decode(file: Path) -> dict[str, Any]:
    try:
        data = file.read_bytes()
        if len(data) > LIMIT:
            raise Invalid(f"more than {LIMIT} bytes", element=str(file))
        return msgspec.json.decode(data, type=dict[str, Any])
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", element=str(file)) from error
    except UNREADABLE as error:
        raise Invalid(
            f"this is not a deploymentconfig.json: {error}",
            element=str(file),
            remedy=f"write one JSON object with {_KIND}: LOCAL, ACI or AKS",
        ) from error
