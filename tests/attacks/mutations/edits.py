"""Small changes to bytes and to JSON documents, drawn by hypothesis, each of which prints as what it does."""

import json
from typing import NamedTuple

from hypothesis import strategies as st

from tests.doubles.bad_values import BAD, MARK, places, put

_SOMEWHERE = st.integers(0, 1 << 16)
#: Without those whose size alone costs time; tests/attacks/wire has them at every place.
_BAD = {name: text for name, text in BAD.items() if len(text) < 10_000}
# What may stand where another was.
_VALUES = {
    **_BAD,
    "a little": "1",
    "nothing": '""',
    "an empty list": "[]",
    "an empty map": "{}",
    "a path upwards": '"../../x"',
    "another device": '"dev-2"',
    "letters that look alike": '"\\u0430cme"',
    "depth": "[" * 300 + "]" * 300,
    "another digest": '"sha256:' + "0" * 64 + '"',
}


class BytesEdit(NamedTuple):
    """``at`` and ``length`` are taken modulo what there is."""

    kind: str
    at: int
    length: int
    data: bytes

    def on(self, old: bytes, other: bytes = b"") -> bytes:
        at = self.at % (len(old) + 1)
        end = min(at + self.length % 64 + 1, len(old))
        match self.kind:
            case "flip" if at < len(old):
                return old[:at] + bytes([old[at] ^ (self.length % 255 + 1)]) + old[at + 1 :]
            case "insert":
                return old[:at] + self.data + old[at:]
            case "delete":
                return old[:at] + old[end:]
            case "cut":
                return old[:at]
            case "double":
                return old[:end] + old[at:end] + old[end:]
            case "splice":
                return old[:at] + other[self.length % (len(other) + 1) :]
            case "repeat":
                return old + old
            case _:
                return self.data


bytes_edits = st.builds(
    BytesEdit,
    st.sampled_from(["flip", "flip", "insert", "delete", "cut", "double", "splice", "repeat", "replace"]),
    _SOMEWHERE,
    _SOMEWHERE,
    st.binary(max_size=8),
)


class JsonEdit(NamedTuple):
    """``at`` and ``to`` name two places of the document, modulo how many there are."""

    kind: str
    at: int
    to: int
    value: str

    def on(self, document, other=None) -> bytes:
        """The JSON of the changed document; ``other`` is one from which a value may come."""
        where = list(places(document))[1:] or [()]
        path, second = where[self.at % len(where)], where[self.to % len(where)]
        bad = None
        match self.kind:
            case "remove" if path:
                document = _without(document, path)
            case "rename" if path and isinstance(path[-1], str):
                document = put(
                    _without(document, path), path[:-1], {**_at(_without(document, path), path[:-1]), "x": 1}
                )
            case "swap" if path[: len(second)] != second and second[: len(path)] != path:
                document = put(put(document, path, _at(document, second)), second, _at(document, path))
            case "copy":
                document = put(document, path, _at(document, second))
            case "take" if other is not None:
                there = list(places(other))
                document = put(document, path, _at(other, there[self.to % len(there)]))
            case "number" if isinstance(_at(document, path), int):
                document = put(document, path, _at(document, path) + (self.to % 5 - 2) * 10 ** (self.to % 12))
            case "twice" if path and isinstance(path[-1], str):
                inner = json.dumps({**_at(document, path[:-1]), MARK: 1})
                twice = inner.replace(f'"{MARK}": 1', f"{json.dumps(path[-1])}: {_VALUES[self.value]}")
                document, bad = put(document, path[:-1], MARK), twice
            case "add" if isinstance(_at(document, path), dict):
                document = put(document, path, {**_at(document, path), "unknown": MARK})
            case _:
                document = put(document, path, MARK)
        return json.dumps(document).replace(f'"{MARK}"', bad or _VALUES[self.value]).encode()


json_edits = st.builds(
    JsonEdit,
    st.sampled_from(["set", "set", "remove", "rename", "swap", "copy", "take", "number", "twice", "add"]),
    _SOMEWHERE,
    _SOMEWHERE,
    st.sampled_from(sorted(_VALUES)),
)


def _at(document, path):
    for key in path:
        document = document[key]
    return document


def _without(document, path):
    above = _at(document, path[:-1])
    if isinstance(above, dict):
        less = {key: value for key, value in above.items() if key != path[-1]}
    else:
        less = above[: path[-1]] + above[path[-1] + 1 :]
    return put(document, path[:-1], less)
