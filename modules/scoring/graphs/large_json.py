"""Large JSON documents of numbers, without making a Python object of each number.

simdjson reads a list of numbers into memory as NumPy has it, in about a third of the time that a general parser and
NumPy need. What is not a plain even list of numbers is left to that general parser, which knows what to say about it.
"""

import json
import threading
from math import prod
from typing import Any, Final

import numpy as np
import orjson
import simdjson

from modules.scoring.runtime import Buffer

# From this many bytes on it pays.
LARGE: Final = 16 << 10
# A parser keeps a buffer of the largest document it has seen: those of larger ones are thrown away.
_KEEP: Final = 4 << 20
# Looking at many short rows one by one costs more than it saves.
_SHORTEST_ROWS: Final = 16
_DEEPEST: Final = 3
# Below this every whole number is exact as a float.
_EXACT: Final = 2.0**53

_parsers = threading.local()


def loads(body: Buffer) -> Any:
    """The document as :func:`orjson.loads` gives it, except that long lists of numbers may be arrays.

    An array is float64, or int64 where all are integers. ``NaN`` and ``Infinity`` are taken, as Python writes them.

    Raises:
        orjson.JSONDecodeError: it is no JSON.
    """
    if len(body) < LARGE:
        return _general(body)
    content = bytes(body)
    try:
        reader = _Reader()
        document = reader.plain(_parser(len(content)).parse(content), 0)
    except (KeyError, ValueError, RuntimeError):
        # The other parser's message is the one that callers know, and it may accept what this one does not.
        return _general(content)
    # simdjson flattens what is nested deeper than its neighbours; then there are more brackets than lists were seen.
    return document if reader.lists == content.count(b"[") else _general(content)


def says_truth(body: Buffer, length: int | None = None) -> bool:
    """Whether ``true`` or ``false`` stands anywhere in so many bytes of it; quicker than a look at each value."""
    text = bytes(body) if isinstance(body, memoryview) else body
    return text.find(b"true", 0, length) >= 0 or text.find(b"false", 0, length) >= 0


def _general(body: Buffer) -> Any:
    """Python's own parser stands in where the body has words for numbers that Python writes, such as ``NaN``."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        content = bytes(body)
        if b"NaN" not in content and b"Infinity" not in content:
            raise
        try:
            return json.loads(content.decode())
        except (ValueError, RecursionError):
            pass  # the first message is about what callers know
        raise


def _parser(size: int) -> Any:
    if size > _KEEP:
        return simdjson.Parser()
    if not hasattr(_parsers, "one"):
        _parsers.one = simdjson.Parser()
    return _parsers.one


class _Reader:
    """Copies a parsed document out of the parser's memory, counting the lists in it."""

    def __init__(self) -> None:
        self.lists = 0

    def plain(self, value: Any, depth: int) -> Any:
        if isinstance(value, simdjson.Object):
            names = list(value)
            # Looking up stops at a NUL and finds the first of two: such names are left to the other parser.
            if len(set(names)) < len(names) or any("\0" in name for name in names):
                raise ValueError("names that cannot be told apart")
            return {name: self.plain(value[name], depth + 1) for name in names}
        if not isinstance(value, simdjson.Array):
            return value
        found = self._numbers(value)
        if found is not None:
            return found
        if depth > _DEEPEST or (len(value) and isinstance(value[0], simdjson.Array)):
            raise ValueError("rows too short, or nested too deeply, to be worth it")
        self.lists += 1
        return [self.plain(one, depth + 1) for one in value]

    def _numbers(self, value: Any) -> np.ndarray[Any, Any] | None:
        shape, first = [], value
        while isinstance(first, simdjson.Array):
            shape.append(len(first))
            first = first[0] if len(first) else None
        rows = prod(shape[:-1])
        if isinstance(first, str | bool | simdjson.Object | None) or (rows > 1 and shape[-1] < _SHORTEST_ROWS):
            return None
        seen, level = 1, [value]
        for length in shape[1:]:
            level = [inner for one in level for inner in one]
            if not all(isinstance(one, simdjson.Array) and len(one) == length for one in level):
                return None
            seen += len(level)
        for kind, dtype in (("i", np.int64), ("d", np.float64)):
            try:
                found = np.frombuffer(value.as_buffer(of_type=kind), dtype)
            except (TypeError, ValueError, RuntimeError):
                continue
            if kind == "d" and found.size and np.abs(found).max() >= _EXACT:
                raise ValueError("an integer may stand there that a float cannot hold")
            self.lists += seen
            return found.reshape(shape) if found.size == prod(shape) else None
        return None
