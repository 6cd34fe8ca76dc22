"""Every right that a namespace must give, and no more: checked when it is attached, and printed for its operator.

Whoever may make pods in a namespace can read all its Secrets, by mounting them, so a namespace should be the fleet's
own.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from fleet.targets.kubernetes.api import KINDS, OF_JOBS, OURS, ROUTE, Api

_CHANGES: Final = ("list", "create", "patch", "delete")
ROLE: Final = "edgefleet"


class Rule(NamedTuple):
    """What may be done with a resource of an API group."""

    group: str
    resource: str
    verbs: tuple[str, ...]


def rules(kinds: Sequence[str] = OURS) -> list[Rule]:
    """The rights that a target needs, however its endpoints are exposed now: they may have been by an Ingress.

    That to Jobs it needs only where it is attached for batch jobs.
    """
    return [
        Rule("", "namespaces", ("get",)),
        Rule("", "pods", ("list",)),
        Rule("", "pods/log", ("get",)),
        # What gateways have counted (counts.py). It reaches every port there by GET, as a pod of our making could.
        Rule("", "pods/proxy", ("get",)),
        Rule("", "events", ("list",)),
        *(Rule(KINDS[kind].group, KINDS[kind].plural, _CHANGES) for kind in dict.fromkeys((*kinds, *OF_JOBS))),
    ]


def missing(api: Api, *, jobs: bool) -> Iterator[str]:
    """The rights that the cluster does not give, each as ``kubectl auth can-i`` has it; with ``jobs`` to Jobs too."""
    for rule in rules(api.kinds):
        if rule.group == KINDS["Job"].group and not jobs:
            continue
        resource, _, part = rule.resource.partition("/")
        for verb in rule.verbs:
            if not api.may(verb, rule.group, resource, part):
                yield f"{verb} {rule.resource}{f'.{rule.group}' if rule.group else ''}"


def manifest(namespace: str) -> list[dict[str, Any]]:
    """A service account with these rights, as objects of the cluster."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ROLE, "namespace": namespace}}
    return [account, *_granted(namespace, ROLE, rules())]


def manifest_of_gateway(namespace: str) -> list[dict[str, Any]]:
    """What the same account needs besides where endpoints are exposed by a Gateway."""
    kind = KINDS[ROUTE]
    return _granted(namespace, f"{ROLE}-gateway", [Rule(kind.group, kind.plural, _CHANGES)])


def _granted(namespace: str, name: str, granted: Sequence[Rule]) -> list[dict[str, Any]]:
    meta = {"name": name, "namespace": namespace}
    grouped = [{"apiGroups": [rule.group], "resources": [rule.resource], "verbs": list(rule.verbs)} for rule in granted]
    return [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": grouped},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": ROLE, "namespace": namespace}],
        },
    ]
