"""HTTPRoute of the Gateway API, as its CustomResourceDefinition has it (v1, standard channel): an excerpt by hand.

No package on PyPI has these schemas. Written down are the fields that are used here with their patterns and bounds, and
the names of those beside them; a field that is not here is unknown to the double, as to a real server one that the
definition lacks.
"""

from typing import Any

ROUTE = "io.k8s.networking.gateway.v1.HTTPRoute"
_META = "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1"
_NAME = {"type": "string", "minLength": 1, "maxLength": 253}
_SPACE = {"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
_DOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_GROUP = {"type": "string", "maxLength": 253, "pattern": rf"^$|^{_DOMAIN}$"}
_KIND = {"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_HOST = {"type": "string", "minLength": 1, "maxLength": 253, "pattern": rf"^(\*\.)?{_DOMAIN}$"}


def _struct(needed: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(needed), "additionalProperties": False}


def _list(items: dict[str, Any], most: int) -> dict[str, Any]:
    # Without a list type of its own a list of a custom resource is one value: whoever applies it has all of it.
    return {"type": "array", "items": items, "maxItems": most, "x-kubernetes-list-type": "atomic"}


_PARENT = _struct(
    ("name",), group=_GROUP, kind=_KIND, namespace=_SPACE, name=_NAME, sectionName=_NAME | {"pattern": rf"^{_DOMAIN}$"},
    port=_PORT,
)  # fmt: skip
_PATH = _struct(
    type={"type": "string", "enum": ["Exact", "PathPrefix", "RegularExpression"]},
    value={"type": "string", "maxLength": 1024},
)
_ANY: dict[str, Any] = {"type": "array", "items": {"type": "object"}}
_MATCH = _struct(path=_PATH, headers=_ANY, queryParams=_ANY, method={"type": "string"})
_BACKEND = _struct(
    ("name",), group=_GROUP, kind=_KIND, namespace=_SPACE, name=_NAME, port=_PORT, filters=_ANY,
    weight={"type": "integer", "minimum": 0, "maximum": 1_000_000},
)  # fmt: skip
_RULE = _struct(
    name=_NAME, matches=_list(_MATCH, 64), filters=_ANY, backendRefs=_list(_BACKEND, 16), timeouts={"type": "object"}
)
_CONDITION = _struct(
    ("type", "status", "lastTransitionTime", "reason", "message"),
    type={"type": "string", "maxLength": 316},
    status={"type": "string", "enum": ["True", "False", "Unknown"]},
    observedGeneration={"type": "integer", "minimum": 0},
    lastTransitionTime={"type": "string"},
    reason={"type": "string", "minLength": 1, "maxLength": 1024},
    message={"type": "string", "maxLength": 32768},
)
# The double begins every status as an empty one, so its ``parents`` are not required here as they are there.
_OF_PARENT = _struct(
    ("parentRef", "controllerName"), parentRef=_PARENT, controllerName={"type": "string"},
    conditions=_list(_CONDITION, 8),
)  # fmt: skip

DEFINITIONS: dict[str, Any] = {
    ROUTE: _struct(
        ("spec",),
        apiVersion={"type": "string", "enum": ["gateway.networking.k8s.io/v1"]},
        kind={"type": "string", "enum": ["HTTPRoute"]},
        metadata={"$ref": f"{_META}.ObjectMeta"},
        spec=_struct(parentRefs=_list(_PARENT, 32), hostnames=_list(_HOST, 16), rules=_list(_RULE, 16)),
        status=_struct(parents=_list(_OF_PARENT, 32)),
    )
}
