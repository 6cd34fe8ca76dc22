"""Label and field selectors: those of requests, and those in objects."""

import re
from collections.abc import Callable
from typing import Any

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.refusals import bad_request

Test = Callable[[dict[str, Any]], bool]
# Which fields each kind can be selected by, besides the two that all have.
_FIELDS = {
    kinds.POD: {
        *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase"),
        *("status.podIP", "status.nominatedNodeName", "spec.hostNetwork"),
    },
    kinds.EVENT: {
        *("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "reason"),
        *("involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "type"),
        *("reportingComponent", "source"),
    },
    kinds.SECRET: {"type"},
    kinds.NAMESPACE: {"status.phase"},
    kinds.REPLICA_SET: {"status.replicas"},
    kinds.JOB: {"status.successful"},
    kinds.NODE: {"spec.unschedulable"},
    kinds.SERVICE: {"spec.clusterIP", "spec.type"},
}
_TERM = re.compile(r"\s*([^\s=!,()]+)\s+(in|notin)\s*\(([^)]*)\)\s*|\s*([^,]*)\s*")


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """A selector as it stands in a Deployment; an empty one is met by everything."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for one in selector.get("matchExpressions", ()):
        key, values = one["key"], one.get("values", [])
        met = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[one["operator"]]
        if not met:
            return False
    return True


def labelled(text: str) -> Test:
    """The ``labelSelector`` of a request: equality and sets."""
    tests: list[Callable[[dict[str, str]], bool]] = []
    rest = text
    while rest.strip():
        match = _TERM.match(rest)
        if match is None or not match[0]:
            raise bad_request(f"unable to parse requirement: found '{rest}'")
        tests.append(_among(match[1], match[2], match[3]) if match[1] else _equal(match[4].strip()))
        rest = rest[match.end() :]
        if rest and not rest.startswith(","):
            raise bad_request(f"unable to parse requirement: found '{rest}', expected: ',' or 'end of string'")
        rest = rest[1:]
    return lambda thing: all(test(thing.get("metadata", {}).get("labels", {})) for test in tests)


def _among(key: str, word: str, listed: str) -> Callable[[dict[str, str]], bool]:
    values = {one.strip() for one in listed.split(",")}
    if word == "in":
        return lambda labels: labels.get(key) in values
    return lambda labels: labels.get(key) not in values


def _equal(term: str) -> Callable[[dict[str, str]], bool]:
    match = re.fullmatch(r"([^=!]+?)\s*(==|=|!=)\s*([^=!]*)", term)
    if match:
        key, word, value = match[1].strip(), match[2], match[3].strip()
        if not re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", value) or len(value) > 63:
            raise bad_request(f'unable to parse requirement: values[0][{key}]: Invalid value: "{value}"')
        return (lambda labels: labels.get(key) != value) if word == "!=" else (lambda labels: labels.get(key) == value)
    if not re.fullmatch(r"!?\s*[-A-Za-z0-9_./]+", term):
        raise bad_request(f"unable to parse requirement: found '{term}'")
    if term.startswith("!"):
        return lambda labels: term[1:].strip() not in labels
    return lambda labels: term in labels


def fielded(kind: Kind, text: str) -> Test:
    """The ``fieldSelector`` of a request; a field that the kind cannot be selected by is refused."""
    terms: list[tuple[str, bool, str]] = []
    for term in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", term)
        if match is None:
            raise bad_request(f"invalid selector: '{term}'; can't understand '{term}'")
        if match[1] not in {"metadata.name", "metadata.namespace"} | _FIELDS.get(kind, set()):
            raise bad_request(f'field label not supported: "{match[1]}"')
        terms.append((match[1], match[2] != "!=", match[3]))
    return lambda thing: all((_value(thing, path) == value) is same for path, same, value in terms)


def _value(thing: Any, path: str) -> str:
    for part in path.split("."):
        thing = thing.get(part) if isinstance(thing, dict) else None
    return "" if thing is None else str(thing).lower() if isinstance(thing, bool) else str(thing)
