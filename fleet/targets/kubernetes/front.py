"""What stands before the replicas of an endpoint: its gateway, how clients reach it, and who may talk to whom.

What a network policy cannot say: it goes by pods and ports, not by host names, and holds for a whole pod. So replicas
may open connections to the fleet server's port as long as they live, though only their init program needs to; and where
that server has a name and no address, to this port of any host. DNS is open to any server. It says nothing of the
node's own processes, which reach every pod there, and it holds only where the cluster's network enforces policies.
"""

import base64
import hashlib
import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from fleet.targets.container.specs import GATEWAY_PORT
from fleet.targets.groups import PORT
from fleet.targets.kubernetes import gateway_route, pods
from fleet.targets.kubernetes.attached import BY_HOST, Attached, address, host_of
from fleet.targets.kubernetes.names import Names
from fleet.targets.kubernetes.replicas import budget
from fleet.targets.settings import Settings
from modules.names import Slug
from modules.protocol.endpoint import CERTIFICATE, CERTIFICATE_KEY

GATEWAYS: Final = 2
HTTP: Final = 80
HTTPS: Final = 443
_HASH: Final = 10
_DNS: Final = [{"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}]


def secure(attached: Attached, settings: Settings) -> bool:
    """Whether the gateway speaks TLS itself; behind an Ingress or a Gateway it does not."""
    return bool(settings.certificate) and attached.expose not in BY_HOST


def secret(names: Names, files: Mapping[str, bytes]) -> dict[str, Any]:
    """A gateway's files. A Secret is never changed: other files are another one, so no pod reads two tables."""
    made = hashlib.sha256(b"".join(name.encode() + b"\0" + data + b"\0" for name, data in sorted(files.items())))
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{names.whole}-g-{made.hexdigest()[:_HASH]}", "labels": names.of("door")},
        "type": "Opaque",
        "immutable": True,
        "data": {name: base64.b64encode(data).decode() for name, data in files.items()},
    }


def data(found: Mapping[str, Any]) -> dict[str, bytes]:
    """The files in a Secret."""
    return {name: base64.b64decode(text) for name, text in (found.get("data") or {}).items()}


def is_replaced(there: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
    """Whether somebody put another one in the place of a Secret that never changes: it goes, and is made anew."""
    return data(there) != files or not there.get("immutable")


def always(names: Names, attached: Attached) -> list[dict[str, Any]]:
    """What an endpoint has before its first pod."""
    return [
        account(names.whole, names.of("account")),
        _policy_of_replicas(names, attached),
        _policy_of_gateway(names),
    ]


def gateway(names: Names, attached: Attached, settings: Settings, *, secret_name: str) -> list[dict[str, Any]]:
    """The gateway's pods, with this Secret."""
    labels = names.of("gateway")
    template = pods.gateway(attached, secret=secret_name, secure=secure(attached, settings))
    spec = template["spec"] | {
        "serviceAccountName": names.whole,
        "topologySpreadConstraints": pods.spread(labels),
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": names.gateway, "labels": labels},
        "spec": {
            "replicas": GATEWAYS,
            "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": labels},
            "template": {"metadata": template["metadata"] | {"labels": labels}, "spec": spec},
        },
    }
    return [deployment, budget(names.gateway, labels)]


def exposed(names: Names, attached: Attached, endpoint: Slug, settings: Settings, port: int) -> list[dict[str, Any]]:
    """How clients reach the gateway; ``port`` of the nodes, 0: any."""
    labels = names.of("gateway")
    one: dict[str, Any] = {"name": "score", "port": HTTPS if secure(attached, settings) else HTTP}
    one |= {"targetPort": GATEWAY_PORT, "protocol": "TCP"}
    if attached.expose == "NodePort" and port:
        one["nodePort"] = port
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": names.gateway, "labels": labels},
        "spec": {
            "type": "ClusterIP" if attached.expose in BY_HOST else attached.expose,
            "selector": labels,
            "ports": [one],
        },
    }
    if attached.expose == "Ingress":
        return [service, _ingress(names, attached, endpoint, settings)]
    if attached.expose == "Gateway":
        return [service, gateway_route.route(names, attached, host_of(attached, endpoint, settings))]
    return [service]


def _ingress(names: Names, attached: Attached, endpoint: Slug, settings: Settings) -> dict[str, Any]:
    labels, host = names.of("gateway"), host_of(attached, endpoint, settings)
    tls = names.gateway if settings.certificate else attached.tls_secret
    to = {"service": {"name": names.gateway, "port": {"number": HTTP}}}
    rule = {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": to}]}}
    spec: dict[str, Any] = {"rules": [rule]}
    if attached.ingress_class:
        spec["ingressClassName"] = attached.ingress_class
    if tls:
        spec["tls"] = [{"hosts": [host], "secretName": tls}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": names.gateway, "labels": labels},
        "spec": spec,
    }


def certificate(names: Names, settings: Settings, key: str) -> dict[str, Any]:
    """The endpoint's own certificate as an Ingress takes it."""
    pair = {"tls.crt": settings.certificate, "tls.key": key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names.gateway, "labels": names.of("certificate")},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in pair.items()},
    }


def without_tls(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """A gateway's files where something before it speaks TLS."""
    return {name: one for name, one in files.items() if name not in {CERTIFICATE, CERTIFICATE_KEY}}


def url(
    attached: Attached,
    endpoint: Slug,
    settings: Settings,
    service: Mapping[str, Any] | None,
    route: Mapping[str, Any] | None = None,
) -> str:
    """Where clients reach the endpoint; empty: nowhere yet. ``route`` is its way through a Gateway."""
    if attached.expose == "Gateway":
        scheme = "http" if attached.gateway_plain else "https"
        return f"{scheme}://{host_of(attached, endpoint, settings)}" if gateway_route.taken(route) else ""
    scheme = "https" if settings.certificate or attached.tls_secret else "http"
    if attached.expose == "Ingress":
        return f"{scheme}://{host_of(attached, endpoint, settings)}"
    if service is None:
        return ""
    if attached.expose == "NodePort":
        port = node_port(service)
        return f"{scheme}://{settings.host_name or attached.name}:{port}" if port else ""
    if attached.expose == "LoadBalancer":
        given = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        host = next((one.get("hostname") or one.get("ip") for one in given), None)
        # Its name is worth nothing before there is an address behind it.
        return f"{scheme}://{settings.host_name or host}" if host else ""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    return f"{scheme}://{settings.host_name or f'{name}.{namespace}.svc'}"


def node_port(service: Mapping[str, Any]) -> int:
    return next((int(one.get("nodePort", 0)) for one in service["spec"].get("ports") or ()), 0)


def account(name: str, labels: dict[str, str]) -> dict[str, Any]:
    """What pods run as: it may do nothing, and has no token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "labels": labels},
        "automountServiceAccountToken": False,
    }


def to_the_server(attached: Attached) -> list[dict[str, Any]]:
    """The connections of who fetches a module: names, and the fleet server."""
    host, port = address(attached)
    try:
        found = ipaddress.ip_address(host)
        to: dict[str, Any] = {"to": [{"ipBlock": {"cidr": f"{found}/{found.max_prefixlen}"}}]}
    except ValueError:
        to = {}
    return [*_DNS, to | {"ports": [{"port": port, "protocol": "TCP"}]}]


def _policy_of_replicas(names: Names, attached: Attached) -> dict[str, Any]:
    return policy(
        names.replicas,
        names.of("replica"),
        ingress=[
            {
                "from": [{"podSelector": {"matchLabels": names.of("gateway")}}],
                "ports": [{"port": PORT, "protocol": "TCP"}],
            }
        ],
        egress=to_the_server(attached),
    )


def _policy_of_gateway(names: Names) -> dict[str, Any]:
    return policy(
        names.gateway,
        names.of("gateway"),
        ingress=[{"ports": [{"port": GATEWAY_PORT, "protocol": "TCP"}]}],
        egress=[
            *_DNS,
            {
                "to": [{"podSelector": {"matchLabels": names.of("replica")}}],
                "ports": [{"port": PORT, "protocol": "TCP"}],
            },
        ],
    )


def policy(name: str, labels: dict[str, str], **rules: list[dict[str, Any]]) -> dict[str, Any]:
    """Who may talk to the pods with these labels, and to whom they may: whoever is not named, nobody."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": labels},
        "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"]} | rules,
    }
