"""Limits that somebody changed on the host by hand (``docker update``), and how they are put back.

What a container was made with stands in a label of it, which nobody can change. What was without a limit gets one back
that is none: the engine takes a zero for "as it is".
"""

import json
from typing import Any, Final

import docker
import docker.errors
import requests

from fleet.targets.container.specs import LABEL

#: of a container: its limits, as JSON
MADE_WITH: Final = f"{LABEL}limits"
_NUMBERS: Final = ("Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuQuota", "CpuShares", "PidsLimit")
_SHARES: Final = 1024
_NANO: Final = 1_000_000_000
_WITHIN_S: Final = 60


def labelled(body: dict[str, Any]) -> dict[str, Any]:
    """The body of a container that is to be made, with a label that says its limits."""
    return body | {"Labels": body["Labels"] | {MADE_WITH: json.dumps(_limits(body["HostConfig"]), sort_keys=True)}}


def changed(api: docker.APIClient, found: dict[str, Any]) -> dict[str, Any]:
    """What is to be put back, as the engine takes it; nothing where it is as it was made, or does not say how.

    Args:
        api: the engine.
        found: the container, as the engine shows it.
    """
    try:
        made = json.loads((found["Config"]["Labels"] or {}).get(MADE_WITH) or "{}")
    except ValueError:
        return {}
    now = _limits(found["HostConfig"])
    if not isinstance(made, dict) or all(now[name] == value for name, value in made.items() if name in now):
        return {}
    cores = int(api.info().get("NCPU") or 1)
    none = {
        "NanoCpus": cores * _NANO, "CpuQuota": -1, "CpuShares": _SHARES, "MemoryReservation": made.get("Memory", 0),
        "CpusetCpus": f"0-{cores - 1}" if cores > 1 else "0",
    }  # fmt: skip
    wanted = {name: made[name] or none.get(name, made[name]) for name in now.keys() & made.keys()}
    back = {name: value for name, value in wanted.items() if now[name] not in (value, made[name])}
    if back.keys() & {"Memory", "MemorySwap"}:  # the engine checks one against the other
        back |= {name: wanted[name] for name in ("Memory", "MemorySwap") if wanted.get(name)}
    if "RestartPolicy" in back:
        back["RestartPolicy"] = {"Name": back["RestartPolicy"]}
    return back


def put_back(api: docker.APIClient, container: str) -> None:
    """Give a container that runs the limits again with which it was made.

    Raises:
        docker.errors.APIError: the engine refuses: what it uses by now may be more.
    """
    if not (body := changed(api, api.inspect_container(container))):
        return
    # The library has no word for the number of processes, nor for whole cores.
    at = f"{api.base_url}/v{api.api_version}/containers/{container}/update"
    answer = api.post(at, json=body, timeout=_WITHIN_S)
    try:
        answer.raise_for_status()
    except requests.HTTPError as error:
        docker.errors.create_api_error_from_http_exception(error)


def _limits(host: dict[str, Any]) -> dict[str, Any]:
    policy = (host.get("RestartPolicy") or {}).get("Name") or "no"
    found = {name: int(host.get(name) or 0) for name in _NUMBERS}
    return found | {"CpusetCpus": str(host.get("CpusetCpus") or ""), "RestartPolicy": policy}
