"""What a pod or a template must be like beyond its types: the objections that the real server makes."""

import re
from collections.abc import Iterator
from typing import Any

from tests.doubles.kubernetes import names
from tests.doubles.kubernetes.quantities import NoQuantity, amount
from tests.doubles.kubernetes.refusals import Cause, barred, duplicate, required, unsupported, wrong

_ENVIRONMENT = r"[-._a-zA-Z][-._a-zA-Z0-9]*"
_KEY = r"[-._a-zA-Z0-9]+"
_STANDARD = {"cpu", "memory", "ephemeral-storage"}
_VOLUMES = {
    *("emptyDir", "hostPath", "secret", "configMap", "projected", "downwardAPI", "persistentVolumeClaim", "nfs", "csi"),
    *("ephemeral", "image", "iscsi", "fc"),
}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")


def spec(at: str, given: dict[str, Any]) -> Iterator[Cause]:  # noqa: C901 - a list of rules
    """``at`` is where it lies: ``spec`` or ``spec.template.spec``."""
    volumes: set[str] = set()
    for number, volume in enumerate(given.get("volumes", ())):
        field = f"{at}.volumes[{number}]"
        yield from _volume(field, volume)
        if (name := volume.get("name", "")) in volumes:
            yield duplicate(f"{field}.name", name)
        volumes.add(name)
    if not given.get("containers"):
        yield required(f"{at}.containers")
    seen: set[str] = set()
    for group in ("containers", "initContainers"):
        for number, container in enumerate(given.get(group, ())):
            field = f"{at}.{group}[{number}]"
            yield from _container(field, container, volumes, init=group == "initContainers")
            if (name := container.get("name", "")) in seen:
                yield duplicate(f"{field}.name", name)
            seen.add(name)
    yield from _choice(f"{at}.restartPolicy", given.get("restartPolicy"), {"Always", "OnFailure", "Never"})
    yield from _choice(
        f"{at}.dnsPolicy", given.get("dnsPolicy"), {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"}
    )
    if given.get("terminationGracePeriodSeconds", 0) < 0:
        yield wrong(f"{at}.terminationGracePeriodSeconds", given["terminationGracePeriodSeconds"], _NOT_NEGATIVE)
    if given.get("activeDeadlineSeconds", 1) < 1:
        yield wrong(
            f"{at}.activeDeadlineSeconds", given["activeDeadlineSeconds"], "must be between 1 and 2147483647, inclusive"
        )
    if account := given.get("serviceAccountName"):
        yield from names.subdomain(f"{at}.serviceAccountName", account)
    yield from names.labels(f"{at}.nodeSelector", given.get("nodeSelector", {}))
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        if given.get("securityContext", {}).get(field, 0) < 0:
            yield wrong(
                f"{at}.securityContext.{field}",
                given["securityContext"][field],
                "must be between 0 and 2147483647, inclusive",
            )
    yield from _seccomp(f"{at}.securityContext", given.get("securityContext", {}))


_NOT_NEGATIVE = "must be greater than or equal to 0"


def _choice(field: str, value: Any, allowed: set[str]) -> Iterator[Cause]:
    if value is not None and value not in allowed:
        yield unsupported(field, value, allowed)


def _volume(field: str, volume: dict[str, Any]) -> Iterator[Cause]:
    yield from names.label(f"{field}.name", volume.get("name", ""))
    sources = [name for name in volume if name != "name"]
    if len(sources) > 1:
        yield barred(f"{field}.{sources[1]}", "may not specify more than 1 volume type")
    for name, needed in (("secret", "secretName"), ("configMap", "name"), ("hostPath", "path")):
        if name in volume and not volume[name].get(needed):
            yield required(f"{field}.{name}.{needed}")
    for name in ("secret", "configMap", "projected", "downwardAPI"):
        mode = volume.get(name, {}).get("defaultMode", 0)
        if not 0 <= mode <= 0o777:
            yield wrong(
                f"{field}.{name}.defaultMode", mode, "must be a number between 0 and 0777 (octal), both inclusive"
            )
    for name in ("secret", "configMap"):
        for number, item in enumerate(volume.get(name, {}).get("items", ())):
            if not item.get("path") or item["path"].startswith("/") or ".." in item["path"].split("/"):
                yield wrong(f"{field}.{name}.items[{number}].path", item.get("path", ""), "must be a relative path")
    if "emptyDir" in volume and "sizeLimit" in volume["emptyDir"]:
        yield from _quantity(f"{field}.emptyDir.sizeLimit", volume["emptyDir"]["sizeLimit"])


def _container(field: str, container: dict[str, Any], volumes: set[str], *, init: bool) -> Iterator[Cause]:
    yield from names.label(f"{field}.name", container.get("name", ""))
    if not container.get("image"):
        yield required(f"{field}.image")
    elif container["image"].strip() != container["image"]:
        yield wrong(f"{field}.image", container["image"], "must not have leading or trailing whitespace")
    yield from _choice(
        f"{field}.imagePullPolicy", container.get("imagePullPolicy"), {"Always", "IfNotPresent", "Never"}
    )
    yield from _ports(field, container.get("ports", ()))
    for number, one in enumerate(container.get("env", ())):
        yield from _environment(f"{field}.env[{number}]", one)
    yield from _mounts(field, container, volumes)
    yield from _resources(f"{field}.resources", container.get("resources", {}))
    restartable = container.get("restartPolicy") == "Always"
    for name in (*_PROBES, "lifecycle"):
        if init and not restartable and name in container:
            yield barred(f"{field}.{name}", "may not be set for init containers without restartPolicy=Always")
    for name in _PROBES:
        if name in container:
            yield from _probe(f"{field}.{name}", container[name], ready=name == "readinessProbe")
    security = container.get("securityContext", {})
    if security.get("privileged") and security.get("allowPrivilegeEscalation") is False:
        yield wrong(
            f"{field}.securityContext",
            security,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        )
    yield from _seccomp(f"{field}.securityContext", security)


def _mounts(field: str, container: dict[str, Any], volumes: set[str]) -> Iterator[Cause]:
    paths: set[str] = set()
    for number, mount in enumerate(container.get("volumeMounts", ())):
        at = f"{field}.volumeMounts[{number}]"
        if mount.get("name", "") not in volumes:
            yield Cause("FieldValueNotFound", f"{at}.name", f'Not found: "{mount.get("name", "")}"')
        if not mount.get("mountPath"):
            yield required(f"{at}.mountPath")
        if mount.get("mountPath") in paths:
            yield wrong(f"{at}.mountPath", mount["mountPath"], "must be unique")
        paths.add(mount.get("mountPath", ""))
        if ".." in mount.get("subPath", "").split("/") or mount.get("subPath", "").startswith("/"):
            yield wrong(f"{at}.subPath", mount["subPath"], "must not contain '..'")


def _seccomp(field: str, security: dict[str, Any]) -> Iterator[Cause]:
    if profile := security.get("seccompProfile"):
        yield from _choice(
            f"{field}.seccompProfile.type", profile.get("type"), {"Localhost", "RuntimeDefault", "Unconfined"}
        )


def _ports(field: str, ports: Any) -> Iterator[Cause]:
    seen: set[str] = set()
    for number, one in enumerate(ports):
        at = f"{field}.ports[{number}]"
        if name := one.get("name"):
            yield from names.port(f"{at}.name", name)
            if name in seen:
                yield duplicate(f"{at}.name", name)
            seen.add(name)
        yield from port_number(f"{at}.containerPort", one.get("containerPort", 0))
        yield from _choice(f"{at}.protocol", one.get("protocol"), {"SCTP", "TCP", "UDP"})


def port_number(field: str, value: Any) -> Iterator[Cause]:
    if not isinstance(value, int) or not 1 <= value <= 65535:
        yield wrong(field, value, "must be between 1 and 65535, inclusive")


def _environment(field: str, one: dict[str, Any]) -> Iterator[Cause]:
    name = one.get("name", "")
    if not re.fullmatch(_ENVIRONMENT, name):
        yield wrong(
            f"{field}.name",
            name,
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.'",
        )
    source = one.get("valueFrom")
    if source is not None:
        if len(source) != 1:
            yield wrong(f"{field}.valueFrom", "", "must specify exactly one source")
        if one.get("value"):
            yield wrong(f"{field}.valueFrom", "", "may not be specified when `value` is not empty")
        for kind in ("secretKeyRef", "configMapKeyRef"):
            if kind in source and not re.fullmatch(_KEY, source[kind].get("key", "")):
                yield required(f"{field}.valueFrom.{kind}.key")


def _quantity(field: str, value: Any) -> Iterator[Cause]:
    try:
        if amount(value) < 0:
            yield wrong(field, value, _NOT_NEGATIVE)
    except NoQuantity as why:
        yield wrong(field, value, str(why))


def _resources(field: str, resources: dict[str, Any]) -> Iterator[Cause]:
    bad = False
    for group in ("limits", "requests"):
        for name, value in resources.get(group, {}).items():
            problems = list(_quantity(f"{field}.{group}[{name}]", value))
            bad = bad or bool(problems)
            yield from problems
            if name not in _STANDARD and "/" not in name and not name.startswith("hugepages-"):
                yield wrong(f"{field}.{group}[{name}]", name, "must be a standard resource for containers")
            if not problems and "/" in name and amount(value) % 1:
                yield wrong(f"{field}.{group}[{name}]", value, "must be an integer")
    if bad:
        return
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for name, value in requests.items():
        if "/" in name and name not in limits:
            yield required(f"{field}.limits", "Limit must be set for non overcommitable resources")
        elif "/" in name and amount(value) != amount(limits[name]):
            yield wrong(f"{field}.requests", value, f"must be equal to {name} limit of {limits[name]}")
        elif name in limits and amount(value) > amount(limits[name]):
            yield wrong(f"{field}.requests", value, f"must be less than or equal to {name} limit of {limits[name]}")


def _probe(field: str, probe: dict[str, Any], *, ready: bool) -> Iterator[Cause]:
    handlers = [name for name in _HANDLERS if name in probe]
    if not handlers:
        yield required(field, "must specify a handler type")
    if len(handlers) > 1:
        yield barred(f"{field}.{handlers[1]}", "may not specify more than 1 handler type")
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if probe.get(name, 0) < 0:
            yield wrong(f"{field}.{name}", probe[name], _NOT_NEGATIVE)
    if not ready and probe.get("successThreshold", 1) != 1:
        yield wrong(f"{field}.successThreshold", probe["successThreshold"], "must be 1")
    for name in ("httpGet", "tcpSocket", "grpc"):
        if name in probe and "port" in probe[name]:
            port = probe[name]["port"]
            if isinstance(port, int):
                yield from port_number(f"{field}.{name}.port", port)
            else:
                yield from names.port(f"{field}.{name}.port", port)
