"""Rules for Services, NetworkPolicies and Ingresses."""

import ipaddress
from collections.abc import Iterator
from typing import Any

from tests.doubles.kubernetes import names, pod_rules
from tests.doubles.kubernetes.refusals import Cause, barred, duplicate, required, unsupported, wrong

_TYPES = {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"}


def service(_: dict[str, Any], spec: dict[str, Any]) -> Iterator[Cause]:  # noqa: C901 - a list of rules
    if (kind := spec.get("type")) not in _TYPES:
        yield unsupported("spec.type", kind, _TYPES)
    ports = spec.get("ports", ())
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    seen, taken = set(), set()
    for number, one in enumerate(ports):
        at = f"spec.ports[{number}]"
        if len(ports) > 1 and not one.get("name"):
            yield required(f"{at}.name")
        elif one.get("name"):
            yield from names.label(f"{at}.name", one["name"])
            if one["name"] in seen:
                yield duplicate(f"{at}.name", one["name"])
            seen.add(one["name"])
        yield from pod_rules.port_number(f"{at}.port", one.get("port", 0))
        if isinstance(one.get("targetPort"), str):
            yield from names.port(f"{at}.targetPort", one["targetPort"])
        elif one.get("targetPort") is not None:
            yield from pod_rules.port_number(f"{at}.targetPort", one["targetPort"])
        if one.get("nodePort") and kind not in {"NodePort", "LoadBalancer"}:
            yield barred(f"{at}.nodePort", "may not be used when `type` is 'ClusterIP'")
        if (one.get("port"), one.get("protocol")) in taken:
            yield duplicate(at, {"port": one.get("port"), "protocol": one.get("protocol")})
        taken.add((one.get("port"), one.get("protocol")))
    yield from names.labels("spec.selector", spec.get("selector", {}))


def policy(_: dict[str, Any], spec: dict[str, Any]) -> Iterator[Cause]:  # noqa: C901 - a list of rules
    yield from names.selector("spec.podSelector", spec.get("podSelector", {}))
    for way, side in (("ingress", "from"), ("egress", "to")):
        for number, rule in enumerate(spec.get(way, ())):
            for position, peer in enumerate(rule.get(side, ())):
                at = f"spec.{way}[{number}].{side}[{position}]"
                if not peer:
                    yield required(at, "must specify a peer")
                if "ipBlock" in peer:
                    if len(peer) > 1:
                        yield barred(at, "may not specify both ipBlock and another peer")
                    yield from _block(f"{at}.ipBlock.cidr", peer["ipBlock"].get("cidr", ""))
                    for index, inner in enumerate(peer["ipBlock"].get("except", ())):
                        yield from _block(f"{at}.ipBlock.except[{index}]", inner)
            for position, port in enumerate(rule.get("ports", ())):
                if "endPort" in port and not isinstance(port.get("port"), int):
                    yield wrong(
                        f"spec.{way}[{number}].ports[{position}].endPort",
                        port["endPort"],
                        "may not be specified when `port` is non-numeric",
                    )
    for number, kind in enumerate(spec.get("policyTypes", ())):
        if kind not in {"Ingress", "Egress"}:
            yield unsupported(f"spec.policyTypes[{number}]", kind, {"Ingress", "Egress"})


def _block(field: str, value: str) -> Iterator[Cause]:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        yield wrong(field, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")


def ingress(_: dict[str, Any], spec: dict[str, Any]) -> Iterator[Cause]:
    if not spec.get("rules") and "defaultBackend" not in spec:
        yield wrong("spec", "", "either `defaultBackend` or `rules` must be specified")
    for number, rule in enumerate(spec.get("rules", ())):
        if host := rule.get("host"):
            yield from names.subdomain(f"spec.rules[{number}].host", host.removeprefix("*."))
        for position, path in enumerate(rule.get("http", {}).get("paths", ())):
            at = f"spec.rules[{number}].http.paths[{position}]"
            if path.get("pathType") not in {"Exact", "ImplementationSpecific", "Prefix"}:
                yield unsupported(f"{at}.pathType", path.get("pathType"), {"Exact", "ImplementationSpecific", "Prefix"})
            elif path["pathType"] != "ImplementationSpecific" and not path.get("path", "").startswith("/"):
                yield wrong(f"{at}.path", path.get("path", ""), "must be an absolute path")
            port = path.get("backend", {}).get("service", {}).get("port", {})
            if "service" in path.get("backend", {}) and len(port) != 1:
                yield required(
                    f"{at}.backend.service.port.number" if not port else f"{at}.backend",
                    "port name or number is required",
                )
