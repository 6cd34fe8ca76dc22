"""Requests as schemathesis makes them from the document, with names in them that there are: else all would be 404."""

from typing import Any, Final

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from fleet.export.columns import TABLES
from tests.fleet.openapi.planted import FINGERPRINT, OURS, PASSWORD, THEIRS, Planted

_KEPT: Final = {"accept", "content-type"}
_NOTHING: Final = "sha256:" + "0" * 64


def names(planted: Planted) -> dict[str, list[Any]]:
    """What a request may name, by parameter or key of a body; where it is another thing in places, with the place."""
    rollouts = [str(one) for one in planted.numbers.values()]
    commands = [planted.given[one] for one in ("berlin-1", "berlin-2", "quagga-near")]
    devices = ["berlin-1", "berlin-2", "quagga-near", "nobody-1"]
    return {
        "device": [*devices, "newcomer-1"],
        "devices": [None, ["berlin-1"], ["berlin-1", "quagga-near"], ["nobody-1"]],
        "/metrics devices": ["true", "berlin-1", "berlin-1,quagga-near"],
        "telemetry": ["true"],
        "stream": ["host"],
        "wait_s": [0, 0.01],
        "rollout": [*rollouts, "999"],
        "command": [*commands, "0" * 32],
        "team": ["acme", "acme", "zebra"],
        "name": ["linear", "draft", "quagga-model"],
        "version": ["1", "2"],
        "/blobs/ name": [planted.blob, _NOTHING],
        "/tuf/ name": ["1.root.json", "timestamp.json", "snapshot.json", "acme.json", "none.json"],
        "/secrets name": ["quagga-secret", "key"],
        "/commands name": ["ping", "diagnose", "decommission", "logs", "restart-module"],
        "/operators name": ["carla", "bert"],
        "/tokens name": ["ci", "quagga-token"],
        "/auto-rollouts name": ["new", "ours", "quagga-rule"],
        "/commands device": [None, *devices],
        "/commands selector": [None, None, OURS, "*"],
        "/commands slot": [None, None, "mine"],
        "arguments": [{}],
        "/secrets slot": ["mine", "new"],
        "/rollouts slot": ["later", "zebra", "both", "new"],
        "slot": ["both", "mine", "theirs", "later", "zebra", "new"],
        "selector": ["*", OURS, THEIRS, "id=quagga-near", "host.os=linux", "site="],
        "module": ["acme/linear:1", "acme/linear:1", "acme/draft:1", "zebra/linear:1", "zebra/quagga-model:1"],
        "model": ["acme/linear", "zebra/linear"],
        "operator": ["bert", "quagga-operator", "nobody"],
        "token": [str(planted.token), "1", "ci"],
        "join": [str(planted.join), "99"],
        "rule": ["ours", "quagga-rule", "quagga-watch", "none"],
        "table": [one.name for one in TABLES],
        "engine": ["process"],
        "settings": [{}],
        "policy": [{}, {"approval": True}, {"late_joiners": True}],
        "fallback": [None],
        "supersede": [False, False, True],
        "labels": [{"site": "berlin"}, {"site": "paris"}, {"site": "berlin", "ring": "canary"}],
        "roles": [[{"role": "viewer", "selector": OURS}], [{"role": "viewer"}], [{"role": "admin"}]],
        "fingerprint": [FINGERPRINT, "cd" * 32],
        "user": ["bert", "quagga-operator"],
        "/session password": [PASSWORD, "wrong"],
        "/operators password": [True, False],
        "old": [PASSWORD],
        "new": ["seven lanterns upon a turquoise walrus"],
        "/secrets value": ["c2VjcmV0"],
        # Of a body that has no keys: the whole.
        "/modules/ body": [planted.next],
    }


class Operation:
    """One of the document's, with all that a request of it may name."""

    def __init__(self, made: Any, document: dict[str, Any], named: dict[str, list[Any]]) -> None:
        self.made, self.public = made, "authorization" not in {one.name for one in made.headers}
        self.method, self.path = made.method.upper(), made.path
        self.declared = {int(one) for one in made.definition.raw["responses"] if one.isdecimal()}
        self._places = {
            "path_parameters": {one.name for one in made.path_parameters},
            "query": {one.name for one in made.query},
            "body": _keys(made.definition.raw, document),
        }
        self._bodies = _known(named, made.path, "body") if made.body else []
        self._named = {
            where: {key: known for key in sorted(keys) if (known := _known(named, made.path, key))}
            for where, keys in self._places.items()
        }

    @property
    def cases(self) -> st.SearchStrategy[Case]:
        return _cases(self)

    def drawn(self, draw: Any, case: Case) -> None:
        """Put names into a request; one value in seven is left as it was made."""
        if self._bodies and draw(st.booleans()):
            case.body = draw(st.sampled_from(self._bodies))
        for where, known in self._named.items():
            values = getattr(case, where)
            for key in known if isinstance(values, dict) else ():
                if key == "wait_s" or draw(st.integers(0, 6)) != 1:
                    values[key] = draw(st.sampled_from(known[key]))


@st.composite
def _cases(draw, operation: Operation):
    """A request that the document allows; of those with a body one in five that it does not."""
    broken = operation.made.body and draw(st.integers(0, 4)) == 1
    mode = GenerationMode.NEGATIVE if broken else GenerationMode.POSITIVE
    case: Case = draw(operation.made.as_strategy(generation_mode=mode))
    if not broken:
        operation.drawn(draw, case)
    return case


def _keys(operation: dict[str, Any], document: dict[str, Any]) -> set[str]:
    """The keys of a JSON body."""
    content = operation.get("requestBody", {}).get("content", {})
    name = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
    return set(document["components"]["schemas"][name]["properties"]) if name else set()


def _known(named: dict[str, list[Any]], path: str, key: str) -> list[Any]:
    """The names for a key; those of this path before those of any."""
    for one, values in named.items():
        place, _, wanted = one.rpartition(" ")
        if wanted == key and place and place in path:
            return values
    return named.get(key, [])


def sent(case: Case, headers: dict[str, str]) -> requests.PreparedRequest:
    """The request as it goes over the wire, of whoever has these headers."""
    given = case.as_transport_kwargs(base_url="https://localhost")
    kept = {name: value for name, value in dict(given.pop("headers", None) or {}).items() if name.lower() in _KEPT}
    return requests.Request(headers=kept | headers, **given).prepare()


def operations(document: dict[str, Any], planted: Planted) -> list[Operation]:
    """Everything that the document has, each once."""
    schema = schemathesis.openapi.from_dict(document)
    return [Operation(one.ok(), document, names(planted)) for one in schema.get_all_operations()]
