"""Rules for names, labels and annotations (RFC 1123 and 1035), with the words of the real server."""

import re
from collections.abc import Iterator
from typing import Any

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.refusals import Cause, required, too_long, wrong

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SERVICE = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = rf"({_QUALIFIED})?"
_PORT = r"[-a-z0-9]+"
MOST_ANNOTATIONS = 256 * 1024

_LABEL_SAYS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_SAYS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_SERVICE_SAYS = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_SAYS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_QUALIFIED_SAYS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def _check(field: str, value: str, pattern: str, says: str, most: int) -> Iterator[Cause]:
    if len(value) > most:
        yield wrong(field, value, f"must be no more than {most} characters")
    if not re.fullmatch(pattern, value):
        yield wrong(field, value, says)


def label(field: str, value: str) -> Iterator[Cause]:
    return _check(field, value, _LABEL, _LABEL_SAYS, 63)


def subdomain(field: str, value: str) -> Iterator[Cause]:
    return _check(field, value, _SUBDOMAIN, _SUBDOMAIN_SAYS, 253)


def port(field: str, value: str) -> Iterator[Cause]:
    if len(value) > 15:
        yield wrong(field, value, "must be no more than 15 characters")
    if not re.fullmatch(_PORT, value):
        yield wrong(field, value, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    elif not re.search("[a-z]", value):
        yield wrong(field, value, "must contain at least one letter (a-z)")
    elif "--" in value:
        yield wrong(field, value, "must not contain consecutive hyphens")
    elif value.startswith("-") or value.endswith("-"):
        yield wrong(field, value, "must not begin or end with a hyphen")


def qualified(field: str, value: str) -> Iterator[Cause]:
    prefix, slash, name = value.rpartition("/")
    if slash and not prefix:
        yield wrong(field, value, "prefix part must be non-empty")
    elif slash:
        for cause in subdomain(field, prefix):
            yield wrong(field, value, "prefix part " + cause.message.split(": ", 2)[-1])
    if not name:
        yield wrong(field, value, "name part must be non-empty")
    elif len(name) > 63:
        yield wrong(field, value, "name part must be no more than 63 characters")
    if not re.fullmatch(_QUALIFIED, name):
        yield wrong(field, value, _QUALIFIED_SAYS)


def label_value(field: str, value: str) -> Iterator[Cause]:
    return _check(field, value, _VALUE, _VALUE_SAYS, 63)


def labels(field: str, given: dict[str, str]) -> Iterator[Cause]:
    for key, value in given.items():
        yield from qualified(field, key)
        yield from label_value(field, value)


def annotations(field: str, given: dict[str, str]) -> Iterator[Cause]:
    for key in given:
        yield from qualified(field, key.lower())
    if sum(len(key.encode()) + len(value.encode()) for key, value in given.items()) > MOST_ANNOTATIONS:
        yield too_long(field, MOST_ANNOTATIONS)


def metadata(kind: Kind, thing: dict[str, Any]) -> Iterator[Cause]:  # noqa: C901 - a list of rules
    given = thing.get("metadata", {})
    name = given.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif kind is kinds.NAMESPACE:
        yield from label("metadata.name", name)
    elif kind is kinds.SERVICE:
        yield from _check("metadata.name", name, _SERVICE, _SERVICE_SAYS, 63)
    elif kind.group == "rbac.authorization.k8s.io":
        if name in {".", ".."} or "/" in name or "%" in name:
            yield wrong("metadata.name", name, "may not be '.' or '..', nor contain '/' or '%'")
    else:
        yield from subdomain("metadata.name", name)
    yield from labels("metadata.labels", given.get("labels", {}))
    yield from annotations("metadata.annotations", given.get("annotations", {}))
    for number, one in enumerate(given.get("finalizers", ())):
        yield from qualified(f"metadata.finalizers[{number}]", one)
    controllers = [one for one in given.get("ownerReferences", ()) if one.get("controller")]
    if len(controllers) > 1:
        yield wrong("metadata.ownerReferences", "", "Only one reference can have Controller set to true")
    for number, one in enumerate(given.get("ownerReferences", ())):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not one.get(field):
                yield wrong(f"metadata.ownerReferences[{number}].{field}", "", f"{field} must not be empty")


def selector(field: str, given: dict[str, Any]) -> Iterator[Cause]:
    yield from labels(f"{field}.matchLabels", given.get("matchLabels", {}))
    for number, one in enumerate(given.get("matchExpressions", ())):
        if one.get("operator") not in {"In", "NotIn", "Exists", "DoesNotExist"}:
            yield wrong(
                f"{field}.matchExpressions[{number}].operator", one.get("operator"), "not a valid selector operator"
            )
