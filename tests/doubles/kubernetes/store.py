"""What etcd and the watch cache are to the real server: objects with versions, and what happened to them."""

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from tests.doubles.kubernetes.copies import copied
from tests.doubles.kubernetes.kinds import Kind

Key = tuple[Kind, str, str]
# Which of the things that are there somebody wants a copy of.
Wanted = Callable[[dict[str, Any]], bool]


class Change(msgspec.Struct, frozen=True):
    """``before`` is what the object was: a watcher by label sees it go when it no longer has the label."""

    version: int
    kind: Kind
    type: str
    thing: dict[str, Any]
    before: dict[str, Any] | None


class Store:
    """Every reader gets a copy. ``changed`` is notified of each write; time passes only by ``pass_time``."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 1000
        self.oldest = 1000
        self.now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        self._objects: dict[Key, dict[str, Any]] = {}
        self._changes: list[Change] = []

    def time(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def pass_time(self, seconds: float) -> None:
        with self.lock:
            self.now += dt.timedelta(seconds=seconds)

    def since(self, then: str) -> float:
        """Seconds from a time that ``time`` wrote."""
        return (self.now - dt.datetime.strptime(then, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)).total_seconds()

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        with self.lock:
            return copied(self._objects.get((kind, namespace if kind.namespaced else "", name)))

    def all(self, kind: Kind, namespace: str = "", wanted: Wanted = lambda _thing: True) -> list[dict[str, Any]]:
        """By namespace and name, as etcd has them; without a namespace those of every one."""
        with self.lock:
            found = [key for key in self._objects if key[0] == kind and namespace in {"", key[1]}]
            things = (self._objects[key] for key in sorted(found, key=lambda key: key[1:]))
            return [copied(thing) for thing in things if wanted(thing)]

    def put(self, kind: Kind, thing: dict[str, Any]) -> dict[str, Any]:
        """Keep it under the next version."""
        with self.lock:
            key = self._key(kind, thing)
            before = self._objects.get(key)
            self._advance()
            thing["metadata"]["resourceVersion"] = str(self.version)
            self._objects[key] = copied(thing)
            self._record(kind, "ADDED" if before is None else "MODIFIED", thing, before)
            return thing

    def remove(self, kind: Kind, thing: dict[str, Any]) -> None:
        with self.lock:
            before = self._objects.pop(self._key(kind, thing))
            self._advance()
            last = copied(before)
            last["metadata"]["resourceVersion"] = str(self.version)
            self._record(kind, "DELETED", last, before)

    def changes(self, kind: Kind, after: int) -> list[Change]:
        with self.lock:
            return [one for one in self._changes if one.kind == kind and one.version > after]

    def forget(self) -> None:
        """Compaction: whoever asks for what happened until now gets 410 Gone."""
        with self.lock:
            self._advance()
            self.oldest = self.version

    def everything(self, wanted: Wanted = lambda _thing: True) -> list[tuple[Kind, dict[str, Any]]]:
        with self.lock:
            return [(key[0], copied(thing)) for key, thing in self._objects.items() if wanted(thing)]

    def versions(self) -> list[tuple[Kind, str]]:
        """Of all that is there; no two are the same."""
        with self.lock:
            return [(key[0], thing["metadata"]["resourceVersion"]) for key, thing in self._objects.items()]

    def _key(self, kind: Kind, thing: dict[str, Any]) -> Key:
        metadata = thing["metadata"]
        return kind, metadata.get("namespace", "") if kind.namespaced else "", metadata["name"]

    def _advance(self) -> None:
        self.version += 1

    def _record(self, kind: Kind, how: str, thing: dict[str, Any], before: dict[str, Any] | None) -> None:
        self._changes.append(Change(self.version, kind, how, copied(thing), before))
        self.changed.notify_all()
