"""An object as the server keeps it: what Go's types leave out is gone, and amounts are written in one way.

So what is read back differs from what was sent even where nobody meant anything by it: who compares the two as they
are finds a difference at each look, and would write for ever.
"""

from typing import Any

from tests.doubles.kubernetes.quantities import NoQuantity, canonical
from tests.doubles.kubernetes.schema import QUANTITY, Shape

# Fields that are no pointers in Go: false and 0 are the same as nothing. All others keep what was said.
_FALSE_IS_NOTHING = {
    *(
        "readOnly",
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "stdin",
        "stdinOnce",
        "tty",
        "publishNotReadyAddresses",
        "paused",
    ),
    "unschedulable",
}
_ZERO_IS_NOTHING = {
    *(
        "minReadySeconds",
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ),
    *("nodePort", "hostPort", "healthCheckNodePort"),
    *("observedGeneration", "readyReplicas", "availableReplicas", "updatedReplicas", "unavailableReplicas"),
    *("fullyLabeledReplicas", "active", "succeeded", "failed", "terminatingReplicas", "currentReplicas"),
}
# Within a status some are no pointers either, but are always written.
_ALWAYS = {("ReplicaSetStatus", "replicas"), ("HorizontalPodAutoscalerStatus", "desiredReplicas")}
# Lists and strings that are written though they are empty.
_EMPTY_STAYS = {
    "endpoints",
    "rules",
    "apiGroups",
    "resourceNames",
    "apiGroup",
    "verbs",
    "message",
    "reason",
    "image",
    "imageID",
}


def normal(shape: Shape, value: Any, name: str = "") -> Any:
    """The value as it is read back; an amount that is none stays, for validation to refuse it."""
    if shape.name == QUANTITY:
        try:
            return canonical(value)
        except NoQuantity:
            return value
    if isinstance(value, list) and shape.is_list:
        return [normal(shape.item(), one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, one in value.items():
        inner = shape.field(key)
        if one is None:
            continue
        kept = one if inner is None else normal(inner, one, key)
        if inner is not None and shape.is_struct and _is_nothing(shape, inner, key, kept):
            continue
        found[key] = kept
    return found


def _is_nothing(owner: Shape, inner: Shape, key: str, value: Any) -> bool:
    if value is False:
        return key in _FALSE_IS_NOTHING
    if value == 0 and isinstance(value, int):
        return key in _ZERO_IS_NOTHING and (owner.name.rsplit(".", 1)[-1], key) not in _ALWAYS
    if value in ("", []):
        return key not in _EMPTY_STAYS
    return value == {} and inner.is_map and not inner.is_struct
