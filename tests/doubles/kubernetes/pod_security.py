"""The Pod Security Standards, "baseline" and "restricted", as the namespace's label asks for them."""

from collections.abc import Iterator
from typing import Any

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_ADDED = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP"),
    *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}


def violations(level: str, spec: dict[str, Any]) -> list[str]:
    """What forbids the pod at this level; nothing at "privileged"."""
    if level == "privileged":
        return []
    return [*_baseline(spec), *(_restricted(spec) if level == "restricted" else ())]


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", ()), *spec.get("containers", ())]


def _named(bad: list[dict[str, Any]]) -> str:
    quoted = ", ".join(f'"{one["name"]}"' for one in bad)
    return f"container{'s' if len(bad) > 1 else ''} {quoted}"


def _security(container: dict[str, Any]) -> dict[str, Any]:
    return container.get("securityContext", {})


def _baseline(spec: dict[str, Any]) -> Iterator[str]:
    if spaces := [one for one in ("hostNetwork", "hostPID", "hostIPC") if spec.get(one)]:
        yield "host namespaces (" + ", ".join(f"{one}=true" for one in spaces) + ")"
    if bad := [one for one in _containers(spec) if _security(one).get("privileged")]:
        yield f"privileged ({_named(bad)} must not set securityContext.privileged=true)"
    if paths := [one["name"] for one in spec.get("volumes", ()) if "hostPath" in one]:
        yield "hostPath volumes (volume " + ", ".join(f'"{one}"' for one in paths) + ")"
    if bad := [one for one in _containers(spec) if any(port.get("hostPort") for port in one.get("ports", ()))]:
        yield f"hostPort ({_named(bad)} uses hostPorts)"
    for one in _containers(spec):
        if more := set(_security(one).get("capabilities", {}).get("add", ())) - _ADDED:
            listed = ", ".join(f'"{name}"' for name in sorted(more))
            said = f"must not include {listed} in securityContext.capabilities.add"
            yield f"non-default capabilities ({_named([one])} {said})"
    if any(
        one.get("seccompProfile", {}).get("type") == "Unconfined"
        for one in (spec.get("securityContext", {}), *map(_security, _containers(spec)))
    ):
        yield 'seccompProfile (must not set securityContext.seccompProfile.type to "Unconfined")'


def _restricted(spec: dict[str, Any]) -> Iterator[str]:
    pod, containers = spec.get("securityContext", {}), _containers(spec)
    if bad := [one for one in containers if _security(one).get("allowPrivilegeEscalation") is not False]:
        yield (
            f"allowPrivilegeEscalation != false ({_named(bad)} must set securityContext.allowPrivilegeEscalation=false)"
        )
    if bad := [one for one in containers if "ALL" not in _security(one).get("capabilities", {}).get("drop", ())]:
        yield f'unrestricted capabilities ({_named(bad)} must set securityContext.capabilities.drop=["ALL"])'
    if bad := [
        one for one in containers if set(_security(one).get("capabilities", {}).get("add", ())) - {"NET_BIND_SERVICE"}
    ]:
        yield f'unrestricted capabilities ({_named(bad)} must not add any but "NET_BIND_SERVICE")'
    if bad := [one for one in spec.get("volumes", ()) if set(one) - {"name"} - _VOLUMES]:
        names = ", ".join(f'"{one["name"]}"' for one in bad)
        yield f"restricted volume types (volume {names} uses restricted volume type)"
    if bad := [one for one in containers if _security(one).get("runAsNonRoot", pod.get("runAsNonRoot")) is not True]:
        yield f"runAsNonRoot != true (pod or {_named(bad)} must set securityContext.runAsNonRoot=true)"
    if pod.get("runAsUser") == 0 or any(_security(one).get("runAsUser") == 0 for one in containers):
        yield "runAsUser=0 (pod or container must not set runAsUser=0)"
    allowed = {"RuntimeDefault", "Localhost"}
    fallback = pod.get("seccompProfile", {})
    if bad := [one for one in containers if _security(one).get("seccompProfile", fallback).get("type") not in allowed]:
        yield (
            f"seccompProfile (pod or {_named(bad)} must set securityContext.seccompProfile.type to "
            '"RuntimeDefault" or "Localhost")'
        )
