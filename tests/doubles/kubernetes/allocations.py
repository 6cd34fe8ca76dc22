"""What the server gives out on a write: addresses and ports of Services, selectors and labels of Jobs."""

import ipaddress
from typing import Any

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.refusals import Cause, wrong
from tests.doubles.kubernetes.store import Store

SERVICES = ipaddress.ip_network("10.96.0.0/16")
NODE_PORTS = range(30000, 32768)


def give(store: Store, kind: Kind, thing: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
    """In place; what cannot be given is an objection."""
    if kind is kinds.JOB and old is None:
        _job(thing)
    if kind is kinds.SERVICE:
        return _service(store, thing, old)
    return []


def _job(thing: dict[str, Any]) -> None:
    spec, uid = thing["spec"], thing["metadata"]["uid"]
    if spec.get("manualSelector"):
        return
    spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    for prefix in ("", "batch.kubernetes.io/"):
        labels[f"{prefix}controller-uid"] = uid
        labels[f"{prefix}job-name"] = thing["metadata"]["name"]


def _service(store: Store, thing: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
    spec, before = thing["spec"], (old or {}).get("spec", {})
    if spec.get("type") == "ExternalName":
        return []
    if before.get("type") != "ExternalName":  # what was given before and is not said now stays
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if field in before and field not in spec:
                spec[field] = before[field]
    others = [one for one in store.all(kinds.SERVICE) if one["metadata"]["uid"] != thing["metadata"].get("uid")]
    wanted = spec.get("clusterIP")
    if not wanted:
        taken = {one["spec"].get("clusterIP") for one in others}
        spec["clusterIP"] = next(str(ip) for ip in list(SERVICES.hosts())[9:] if str(ip) not in taken)
    elif wanted != "None" and wanted in {one["spec"].get("clusterIP") for one in others}:
        return [
            wrong("spec.clusterIPs", [wanted], "failed to allocate IP " + wanted + ": provided IP is already allocated")
        ]
    spec.setdefault("clusterIPs", [spec["clusterIP"]])
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    return _node_ports(spec, before, others)


def _node_ports(spec: dict[str, Any], before: dict[str, Any], others: list[dict[str, Any]]) -> list[Cause]:
    if spec.get("type") not in {"NodePort", "LoadBalancer"} or spec.get("allocateLoadBalancerNodePorts") is False:
        for port in spec.get("ports", ()):
            if port.get("nodePort") in {one.get("nodePort") for one in before.get("ports", ())}:
                port.pop("nodePort", None)  # the type changed, and the port came from the type
        return []
    taken = {port.get("nodePort") for one in others for port in one["spec"].get("ports", ())}
    had = {(one.get("port"), one.get("protocol")): one.get("nodePort") for one in before.get("ports", ())}
    for number, port in enumerate(spec.get("ports", ())):
        at = f"spec.ports[{number}].nodePort"
        if port.get("nodePort"):
            if port["nodePort"] not in NODE_PORTS:
                return [
                    wrong(
                        at,
                        port["nodePort"],
                        "provided port is not in the valid range. The range of valid ports is 30000-32767",
                    )
                ]
            if port["nodePort"] in taken:
                return [wrong(at, port["nodePort"], "provided port is already allocated")]
        else:
            kept = had.get((port.get("port"), port.get("protocol")))
            port["nodePort"] = kept or next(one for one in NODE_PORTS if one not in taken)
        taken.add(port["nodePort"])
    return []
