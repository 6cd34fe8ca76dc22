"""What a client may do, asked by itself: SelfSubjectAccessReview and SelfSubjectRulesReview."""

from typing import Any

import msgspec

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.access import MASTERS, Access, Action, User
from tests.doubles.kubernetes.kinds import KINDS, Kind
from tests.doubles.kubernetes.refusals import bad_request, required
from tests.doubles.kubernetes.schema import check_types

_ALL = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]


def review(access: Access, user: User, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
    check_types(kind, body)
    spec = body.get("spec", {})
    if kind is kinds.SELF_RULES:
        if not spec.get("namespace"):
            raise bad_request("no namespace on request")
        rules = _ALL if MASTERS in user.groups else access.rules(user, spec["namespace"])
        status = {"resourceRules": rules, "nonResourceRules": [], "incomplete": False}
    elif asked := spec.get("resourceAttributes"):
        status = {"allowed": access.allowed(user, _action(asked))}
    elif asked := spec.get("nonResourceAttributes"):
        status = {"allowed": access.allowed(user, Action(asked.get("verb", ""), path=asked.get("path", "")))}
    else:
        raise bad_request(str(required("spec", "exactly one of nonResourceAttributes or resourceAttributes")))
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {}, "spec": spec, "status": status}


def _action(asked: dict[str, Any]) -> Action:
    group, plural = asked.get("group", ""), asked.get("resource", "")
    known = next((kind for kind in KINDS if (kind.group, kind.plural) == (group, plural)), None)
    kind = known or msgspec.structs.replace(kinds.POD, group=group, plural=plural)
    return Action(
        asked.get("verb", ""), kind, asked.get("namespace", ""), asked.get("name", ""), asked.get("subresource", "")
    )
