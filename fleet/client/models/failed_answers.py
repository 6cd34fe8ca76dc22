"""Answers of status 200 that read like a failure: many scripts catch every exception and return its text.

A device would be held to such an answer for ever, so whoever registers the model is told.
"""

import re
from typing import Any, Final

import msgspec

from modules.canonical import UNREADABLE

_KEYS: Final = frozenset({"error", "errors", "errormessage", "exception", "traceback"})
_FAILED: Final = frozenset({"error", "failed", "failure"})
_STATUS: Final = frozenset({"status", "state", "result"})
_TEXT: Final = re.compile(
    r"^\W*(?:\w*(?:error|exception)\b|traceback)|\b[A-Z]\w*(?:Error|Exception)\b|Traceback \(most recent call last\)"
    r"|could not convert|object has no attribute|object is not (?:subscriptable|iterable|callable)"
    r"|list indices must be|unexpected keyword argument|missing \d+ required",
    re.IGNORECASE | re.DOTALL,
)


def reads_like_failure(answer: bytes) -> bool:
    """Whether an answer says that something went wrong, as JSON, as JSON within a string, or in words."""
    try:
        return _failed(msgspec.json.decode(answer))
    except UNREADABLE:
        return bool(_TEXT.search(answer.decode("utf-8", "replace")))


def _failed(value: Any) -> bool:
    if isinstance(value, dict):
        for key, one in value.items():
            plain = key.lower().replace("_", "")
            if plain in _KEYS and one not in (None, False, "", [], {}, 0):
                return True
            if plain in _STATUS and isinstance(one, str) and one.lower() in _FAILED:
                return True
        return len(value) == 1 and any(isinstance(one, str) and _failed(one) for one in value.values())
    if isinstance(value, list):
        return len(value) == 1 and _failed(value[0])
    if not isinstance(value, str):
        return False
    try:
        inner = msgspec.json.decode(value)
    except UNREADABLE:
        return bool(_TEXT.search(value))
    return not isinstance(inner, str) and _failed(inner)
