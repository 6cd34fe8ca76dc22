"""Lists and watches: selected by labels and fields, in pages, from a version on, and 410 Gone for what is forgotten."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.refusals import Refused, bad_request, expired
from tests.doubles.kubernetes.selectors import fielded, labelled
from tests.doubles.kubernetes.store import Store

_LOOK_S = 0.2
_LONGEST_S = 3600.0
Things = dict[str, Any]


class Reading:
    """``over`` says that the server ends, and so do its watches."""

    def __init__(self, store: Store, over: Callable[[], bool]) -> None:
        self._store = store
        self._over = over

    def find(self, kind: Kind, namespace: str, query: dict[str, str]) -> Things:
        with self._store.lock:
            chosen = _chosen(kind, query)
            version = self._store.version
            things = [one for one in self._store.all(kind, namespace) if chosen(one)]
            if (
                query.get("resourceVersionMatch") == "Exact"
                and _number(query.get("resourceVersion")) < self._store.oldest
            ):
                raise expired(f"The provided resource version is too old: {query['resourceVersion']}")
        metadata: Things = {"resourceVersion": str(version)}
        limit = int(query.get("limit") or 0)
        if token := query.get("continue"):
            version, after = json.loads(base64.urlsafe_b64decode(token))
            if version < self._store.oldest:
                raise expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a "
                    "new list without the continue parameter, or use the continue token in this response to retrieve "
                    "the remainder of the results."
                )
            metadata["resourceVersion"] = str(version)
            things = [one for one in things if _place(one) > tuple(after)]
        if limit and len(things) > limit:
            rest, things = len(things) - limit, things[:limit]
            said = json.dumps([version, _place(things[-1])]).encode()
            metadata |= {"continue": base64.urlsafe_b64encode(said).decode()}
            if not query.get("labelSelector") and not query.get("fieldSelector"):
                metadata["remainingItemCount"] = rest
        # The items of a list do not say of what kind they are.
        for thing in things:
            del thing["apiVersion"], thing["kind"]
        return {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": things}

    def watch(self, kind: Kind, namespace: str, query: dict[str, str]) -> Iterator[Things]:
        chosen = _chosen(kind, query)
        asked = query.get("resourceVersion", "")
        with self._store.lock:
            seen = self._store.version
            first = []
            initial = query.get("sendInitialEvents") in {"true", "True", "1"}
            if asked in {"", "0"} or initial:
                first = [_event("ADDED", one) for one in self._store.all(kind, namespace) if chosen(one)]
            else:
                seen = _number(asked)
                if seen < self._store.oldest:
                    first, seen = [_gone(asked, self._store.oldest)], -1
        if initial:
            first.append(_bookmark(kind, seen, {"k8s.io/initial-events-end": "true"}))
        return self._stream(kind, namespace, query, chosen, first, seen)

    def _stream(
        self,
        kind: Kind,
        namespace: str,
        query: dict[str, str],
        chosen: Callable[[Things], bool],
        first: list[Things],
        seen: int,
    ) -> Iterator[Things]:
        yield from first
        if seen < 0:
            return
        ends = time.monotonic() + float(query.get("timeoutSeconds") or _LONGEST_S)
        bookmarks = query.get("allowWatchBookmarks") in {"true", "True", "1"}
        while not self._over() and time.monotonic() < ends:
            with self._store.changed:
                changes = self._store.changes(kind, seen)
                if not changes:
                    self._store.changed.wait(min(_LOOK_S, max(0.0, ends - time.monotonic())))
                    seen = max(seen, self._store.version) if not self._store.changes(kind, seen) else seen
            for change in changes:
                seen = change.version
                if change.thing["metadata"].get("namespace", "") == namespace or not namespace:
                    yield from _seen(change.type, change.thing, change.before, chosen)
        if bookmarks and not self._over():
            yield _bookmark(kind, seen, {})


def _seen(how: str, thing: Things, before: Things | None, chosen: Callable[[Things], bool]) -> Iterator[Things]:
    """A watcher by label sees an object come when it gets the label, and go when it loses it."""
    was, now = before is not None and chosen(before), chosen(thing)
    if how == "DELETED":
        if was:
            yield _event("DELETED", thing)
    elif now:
        yield _event("MODIFIED" if was else "ADDED", thing)
    elif was:
        last = dict(before or {})
        last["metadata"] = last["metadata"] | {"resourceVersion": thing["metadata"]["resourceVersion"]}
        yield _event("DELETED", last)


def _chosen(kind: Kind, query: dict[str, str]) -> Callable[[Things], bool]:
    by_label, by_field = labelled(query.get("labelSelector", "")), fielded(kind, query.get("fieldSelector", ""))
    return lambda thing: by_label(thing) and by_field(thing)


def _event(how: str, thing: Things) -> Things:
    return {"type": how, "object": thing}


def _bookmark(kind: Kind, version: int, annotations: dict[str, str]) -> Things:
    metadata = {"resourceVersion": str(version), "creationTimestamp": None} | (
        {"annotations": annotations} if annotations else {}
    )
    return _event("BOOKMARK", {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata})


def _gone(asked: str, oldest: int) -> Things:
    """A watch has been answered with 200 when it is found to be too old, so that its end is an event."""
    refused: Refused = expired(f"too old resource version: {asked} ({oldest})")
    return _event("ERROR", refused.status)


def _number(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError as why:
        raise bad_request(f"invalid resource version: {text}") from why


def _place(thing: Things) -> tuple[str, str]:
    return thing["metadata"].get("namespace", ""), thing["metadata"]["name"]
