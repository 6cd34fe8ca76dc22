"""What is served, as clients ask for it: /version, /api, /apis, and the resources of each group."""

from typing import Any

from tests.doubles.kubernetes.kinds import KINDS, Kind
from tests.doubles.kubernetes.schema import VERSION

_MINOR = VERSION.split(".")[1]


def document(path: str, server: str) -> dict[str, Any] | str | None:
    """None where nothing of this kind is at the path."""
    if path in {"/healthz", "/livez", "/readyz"}:
        return "ok"
    if path == "/version":
        return {
            "major": "1",
            "minor": _MINOR,
            "gitVersion": VERSION,
            "gitCommit": "f28b4c9efbca5c5c0af716d9f2d5702667ee8a45",
            "gitTreeState": "clean",
            "buildDate": "2025-08-27T10:09:04Z",
            "goVersion": "go1.24.5",
            "compiler": "gc",
            "platform": "linux/amd64",
        }
    if path == "/api":
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}]
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}
    if path == "/apis":
        groups = dict.fromkeys(kind.group for kind in KINDS if kind.group)
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in groups]}
    parts = path.strip("/").split("/")
    if parts[0] == "apis" and len(parts) == 2 and parts[1] in {kind.group for kind in KINDS}:
        return {"kind": "APIGroup", "apiVersion": "v1"} | _group(parts[1])
    version = "/".join(parts[1:])
    served = [kind for kind in KINDS if kind.api_version == version]
    if served and (parts[0] == "api") == (version == "v1"):
        resources = [entry for kind in served for entry in _resources(kind)]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
    return None


def _group(name: str) -> dict[str, Any]:
    versions = dict.fromkeys(kind.version for kind in KINDS if kind.group == name)
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resources(kind: Kind) -> list[dict[str, Any]]:
    entry = {
        "name": kind.plural,
        "singularName": kind.name.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": list(kind.verbs),
    }
    if kind.short:
        entry["shortNames"] = list(kind.short)
    more = []
    for name in kind.subresources:
        verbs = ["get"] if name in {"log", "proxy"} else ["get", "patch", "update"]
        scale = {"group": "autoscaling", "version": "v1"} if name == "scale" else {}
        shown = {"scale": "Scale", "proxy": "PodProxyOptions"}.get(name, kind.name)
        more.append(
            {
                "name": f"{kind.plural}/{name}",
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": shown,
                "verbs": verbs,
            }
            | scale
        )
    return [entry, *more]
