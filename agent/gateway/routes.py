"""From a request's path to a slot and the path that its scoring server sees. Pure."""

from collections.abc import Collection
from typing import Final, NamedTuple
from urllib.parse import unquote

from aiohttp import web

from agent.gateway.refusals import refusal
from modules.names import Slug

# What a scoring server offers at its root. Only these are taken without a slot, so that a misspelt slot is answered
# with the slots there are and not with the 404 of a module that nobody meant.
UNPREFIXED: Final = frozenset({"score", "swagger.json", "metrics", "v2"})

# Under which Azure Kubernetes Service has its endpoints, so that clients of one need no new path.
_SERVICES: Final = "/api/v1/service"

# The scoring server's branch for the agent alone (what it really runs on, its memory): not for applications.
INTERNAL: Final = "edgefleet"


class Destination(NamedTuple):
    """A slot, and the still-encoded path with its query for the slot's scoring server."""

    slot: Slug
    path: str


def destination(raw_path: str, slots: Collection[Slug]) -> Destination:
    """Find the slot that a request is for.

    Args:
        raw_path: the request target as the client sent it, query included.
        slots: the names of the device's slots.

    Raises:
        web.HTTPError: no slot is meant, or none that is here; the message says which there are.
    """
    path, mark, query = raw_path.partition("?")
    if not path.startswith("/"):
        raise refusal(web.HTTPBadRequest, f"{path[:80]!r} is no path; begin it with /")
    first, _, rest = path.removeprefix(_SERVICES)[1:].partition("/")
    if first in slots:
        slot, inner = Slug(first), f"/{rest}"
    elif first in UNPREFIXED and len(slots) == 1:
        (slot,) = slots
        inner = path
    else:
        raise _unknown(first, slots)
    _check(inner)
    return Destination(slot, f"{inner}{mark}{query}")


def _check(inner: str) -> None:
    # Judged as the scoring server will read it: decoded, and without counting repeated slashes.
    parts = [part for part in unquote(inner).split("/") if part]
    if ".." in parts or "." in parts:
        raise refusal(web.HTTPBadRequest, "the path has a . or .. in it; write it without")
    if parts[:1] == [INTERNAL]:
        raise refusal(web.HTTPNotFound, f"/{INTERNAL}/ is the agent's own; applications use /<slot>/score")


def _unknown(first: str, slots: Collection[Slug]) -> web.HTTPError:
    if not slots:
        return refusal(web.HTTPNotFound, "this device has no slots yet; roll a module out to it first")
    names = " or ".join(f"/{slot}/score" for slot in sorted(slots))
    if first in UNPREFIXED:
        return refusal(web.HTTPNotFound, f"this device has several slots, so say which: use {names}")
    return refusal(web.HTTPNotFound, f"no slot {first[:63]!r} on this device: use {names}")
