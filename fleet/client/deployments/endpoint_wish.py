"""What an Aci or Aks configuration means for an endpoint: each argument has its effect there, or a clear error. Pure.

Where nobody said anything, it is as in Azure ML: an ACI service asks for no key, an AKS service for one.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client.deployments.configuration import Aci, Aks, Configuration
from modules.errors import Invalid

_MB_PER_GB: Final = 1024
_LEAST_MB: Final = 16
# A property of every endpoint that was deployed by a configuration, so that it is found again as what it is.
KIND: Final = "sdk.kind"
# What only a cluster does; the server refuses it for a container host.
_CLUSTER: Final = {
    "autoscale_min_replicas": "autoscale_min",
    "autoscale_max_replicas": "autoscale_max",
    "autoscale_refresh_seconds": "autoscale_refresh_s",
    "autoscale_target_utilization": "autoscale_target",
    "period_seconds": "probe_period_s",
    "initial_delay_seconds": "probe_delay_s",
    "timeout_seconds": "probe_timeout_s",
    "success_threshold": "probe_successes",
    "failure_threshold": "probe_failures",
    "namespace": "namespace",
}
# As with Azure ML, where nobody says how many there are at most.
_MOST: Final = 10
_NOT_YET: Final = {
    "collect_model_data": "leave it out: inputs and answers are not collected in the cloud yet",
    "enable_app_insights": "leave it out: get_logs() has what the service printed, /metrics counts its requests",
}


class EndpointWish(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask the fleet server for; of a change only what was said."""

    settings: dict[str, Any] = {}
    replicas: int | None = None
    primary_key: str = ""
    secondary_key: str = ""
    certificate_key: str | None = None


def wished(made: Aci | Aks, *, change: bool = False, where: str = "deployment_config") -> EndpointWish:
    """The endpoint that a configuration describes; ``change``: of one that is there, whose other settings stay.

    Raises:
        Invalid: an argument that has no effect yet, with what to write instead; or a file that cannot be read.
    """
    for name, instead in _NOT_YET.items():
        if getattr(made, name, None):
            raise Invalid("this is not there yet", element=f"{where}: {name}", remedy=instead)
    settings: dict[str, Any] = {
        "cpu_cores": getattr(made, "cpu_cores_limit", None) or made.cpu_cores,
        "memory_mb": _mebibytes(getattr(made, "memory_gb_limit", None) or made.memory_gb),
        "tags": made.tags,
        "properties": made.properties,
        "description": made.description,
        "auth": _auth(made, change=change),
    }
    if isinstance(made, Aks):
        settings |= {
            "concurrent": made.replica_max_concurrent_requests,
            "wait_s": _seconds(made.max_request_wait_time),
            "answer_s": _seconds(made.scoring_timeout_ms),
            **{setting: getattr(made, name) for name, setting in _CLUSTER.items()},
            **_scaled(made, change=change, where=where),
        }
        return _wish(made, settings, replicas=made.num_replicas)
    key = None
    if made.ssl_enabled and made.ssl_cert_pem_file and made.ssl_key_pem_file:
        settings["certificate"] = _text(made.ssl_cert_pem_file, "ssl_cert_pem_file")
        key = _text(made.ssl_key_pem_file, "ssl_key_pem_file")
    elif made.ssl_enabled is False:
        settings["certificate"] = ""
    settings["host_name"] = made.ssl_cname
    return _wish(made, settings, certificate_key=key)


def _scaled(made: Aks, *, change: bool, where: str) -> dict[str, Any]:
    """How many replicas the cluster may make: as with Azure ML, any bound alone means that it may.

    Raises:
        Invalid: bounds, and it may not.
    """
    bounds = [name for name in _CLUSTER if name.startswith("autoscale_") and getattr(made, name) is not None]
    fixed = made.autoscale_enabled is False or made.num_replicas is not None
    if bounds and fixed:
        raise Invalid(
            "the number of replicas is fixed, so this has no effect",
            element=f"{where}: {', '.join(bounds)}",
            remedy="leave it out, or set autoscale_enabled instead of num_replicas",
        )
    if fixed:
        return {"autoscale_max": 0} if change or made.autoscale_enabled is False else {}
    if made.autoscale_enabled or (bounds and not change):
        most = made.autoscale_max_replicas or max(_MOST, made.autoscale_min_replicas or 1)
        return {"autoscale_max": most}
    return {}


def _wish(made: Aci | Aks, settings: dict[str, Any], **more: Any) -> EndpointWish:
    return EndpointWish(
        settings={name: value for name, value in settings.items() if value is not None},
        primary_key=made.primary_key or "",
        secondary_key=made.secondary_key or "",
        **more,
    )


def _auth(made: Aci | Aks, *, change: bool) -> str | None:
    if isinstance(made, Aks) and made.token_auth_enabled:
        return "token"
    if made.auth_enabled is not None:
        return "key" if made.auth_enabled else "none"
    if change:
        return None
    return "key" if isinstance(made, Aks) or made.primary_key else "none"


def _mebibytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else max(_LEAST_MB, round(gigabytes * _MB_PER_GB))


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _text(file: str, element: str) -> str:
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            f"it cannot be read: {error}", element=f"{element} {file}", remedy="name a file in PEM"
        ) from error


def elsewhere(made: Configuration) -> Aci | Aks:
    """The configuration, if it is for another place than this machine.

    Raises:
        Invalid: it is for this one.
    """
    if not isinstance(made, Aci | Aks):
        raise Invalid(
            "this is for a service on this machine",
            element="computeType LOCAL",
            remedy="write ACI or AKS; or use: edgefleet serve-local",
        )
    return made
