"""What a group's pods are told of their module: a Secret, written anew well before what it lets them do expires."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from fleet.targets.container.specs import LABEL
from fleet.targets.contract import Module
from fleet.targets.kubernetes.names import Names
from modules.names import Slug
from modules.protocol.content import SETTINGS

_MADE: Final = f"{LABEL}made"
_RENEW: Final = f"{LABEL}renew"


class Told(NamedTuple):
    """What a pod is told, and when it should be told anew, in Unix seconds."""

    document: bytes
    renew_at: float


class Contents(Protocol):
    """Who writes what a pod is told of its module."""

    def now(self) -> float:
        """The time, in Unix seconds."""

    def told(self, endpoint: Slug, module: Module, *, url: str, ca: str, key: str, room_bytes: int) -> Told:
        """What lets a pod fetch and verify this module.

        Args:
            endpoint: whose pod it is.
            module: which it serves.
            url: the fleet server's address, as pods reach it.
            ca: the authorities that they trust for it, in PEM; empty: the system's.
            key: what lets the gateway in.
            room_bytes: how much the module may take.
        """


def secret(
    names: Names, group: str, contents: Contents, seen: Mapping[str, Any] | None, *, endpoint: Slug, module: Module,
    url: str, ca: str, key: str, room_bytes: int,
) -> dict[str, Any]:  # fmt: skip
    """The Secret of a group: the one that is there, while it is whole, says the same, and is good for long enough."""
    parts = (module.digest, url, ca, key, room_bytes)
    basis = hashlib.sha256(repr(parts).encode()).hexdigest()
    if seen is not None:
        notes = seen["metadata"].get("annotations") or {}
        text = (seen.get("data") or {}).get(SETTINGS, "")
        renew_at = notes.get(_RENEW, "")
        whole = notes.get(_MADE) == _hash(basis, text)
        if whole and renew_at.isdecimal() and contents.now() < int(renew_at):
            return _secret(names, group, text, basis, renew_at)
    told = contents.told(endpoint, module, url=url, ca=ca, key=key, room_bytes=room_bytes)
    return _secret(names, group, base64.b64encode(told.document).decode(), basis, str(int(told.renew_at)))


def _secret(names: Names, group: str, text: str, basis: str, renew_at: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.content(group),
            "labels": names.of("content", group),
            "annotations": {_MADE: _hash(basis, text), _RENEW: renew_at},
        },
        "type": "Opaque",
        "data": {SETTINGS: text},
    }


def _hash(basis: str, text: str) -> str:
    return hashlib.sha256(f"{basis}/{text}".encode()).hexdigest()
