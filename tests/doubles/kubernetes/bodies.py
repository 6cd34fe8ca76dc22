"""What a body says of itself must be what its address says: kind, version, namespace, name."""

from typing import Any

from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.refusals import bad_request


def placed(kind: Kind, namespace: str, body: dict[str, Any], name: str = "") -> dict[str, Any]:
    """With the namespace and name of the address, which the body must not contradict."""
    metadata = body.setdefault("metadata", {})
    if kind.namespaced:
        if metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    elif metadata.get("namespace"):
        raise bad_request("namespace may not be specified for this resource")
    if name and metadata.setdefault("name", name) != name:
        said = f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
        raise bad_request(said)
    return body


def expect(kind: Kind, body: Any) -> None:
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type " + kind.name + ")")
    given, name = body.get("apiVersion", kind.api_version), body.get("kind", kind.name)
    if given != kind.api_version:
        raise bad_request(
            f"the API version in the data ({given}) does not match the expected API version ({kind.api_version})"
        )
    if name != kind.name:
        raise bad_request(f"the kind in the data ({name}) does not match the expected kind ({kind.name})")
