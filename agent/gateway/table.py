"""The routing table: what the agent tells the gateway, as one file that is replaced whole.

The agent is the only writer, the gateway the only reader. This file imports nothing heavier than msgspec, because both
processes carry it.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from modules.errors import Invalid
from modules.names import Slug, SlugField, slug

MAX_BYTES: Final = 1 << 20

# sun_path holds 108 bytes with its closing zero.
SocketPath = Annotated[str, msgspec.Meta(pattern=r"^/", max_length=107)]


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """One running instance of a module on this device.

    ``socket`` is the absolute path of its Unix socket, ``module`` the reference ``team/name:version``, ``provider`` the
    execution provider really in use, ``instance`` the name of this start of it. A new start needs a new ``instance`` or
    a new ``socket``: that is how the gateway knows that old connections lead nowhere. ``memory_mb`` is the limit in MiB
    that its engine holds it to, by which bodies are refused; 0: none, or an agent of before does not say.
    """

    socket: SocketPath
    module: str
    provider: str
    instance: str
    memory_mb: Annotated[int, msgspec.Meta(ge=0, le=1 << 33)] = 0


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """The same module in the cloud, asked when no instance on this device can be reached.

    ``url`` is the base address to which ``/score`` is appended. ``ca`` is the file of authorities to trust instead of
    the system's, ``cert`` and ``key`` the device's own certificate and key (PEM files that the gateway may read). They
    are read again when the table changes, so after a renewal the agent writes the table with the next generation.
    ``module`` is the reference that runs there, where the agent knows it.
    """

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^/?#]+[^?#]*\Z", max_length=1000)]
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    module: str = ""


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One scoring server of an endpoint, in a network that only its gateway reaches.

    ``url`` is its base address, ``key`` what it lets its gateway in by; empty: it asks for none. The others are as in
    :class:`Upstream`.
    """

    url: Annotated[str, msgspec.Meta(pattern=r"^http://[^/?#@]+\Z", max_length=1000)]
    module: str
    provider: str
    instance: str
    memory_mb: Annotated[int, msgspec.Meta(ge=0, le=1 << 33)] = 0
    key: str = ""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a module behind an endpoint: its share of the requests, in percent, and its replicas."""

    name: SlugField
    weight: Annotated[int, msgspec.Meta(ge=0, le=100)]
    replicas: Annotated[tuple[Replica, ...], msgspec.Meta(max_length=256)] = ()


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Who serves one slot.

    On a device ``previous`` is asked when ``current`` cannot be reached before any byte of an answer arrived, then
    ``fallback``. ``hold`` says that a stop-then-start swap is going on: requests wait a little for the next table.
    An endpoint has ``versions`` instead; the first of them is its default, asked where the one whose turn it is has no
    replica that can be reached, and for what the weights leave over.
    """

    # A candidate on a device (share of traffic, mirror) is a further optional field of this Struct.
    current: Upstream | None = None
    previous: Upstream | None = None
    fallback: Fallback | None = None
    hold: bool = False
    versions: Annotated[tuple[Version, ...], msgspec.Meta(max_length=16)] = ()


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All slots of the device. ``generation`` grows by one with each write, for the logs of both sides."""

    generation: int
    slots: dict[SlugField, Route]


class Parsed(NamedTuple):
    """A table as the gateway understands it; ``refused`` are slots of which it cannot use the route, and why."""

    table: Table
    refused: dict[str, str]


class _Rough(msgspec.Struct):
    """A table whose routes are looked at one by one: a route that cannot be used takes no other with it."""

    generation: int
    slots: dict[str, dict[str, Any]]


_decoder = msgspec.json.Decoder(Table)
_rough = msgspec.json.Decoder(_Rough)


def write(path: Path, table: Table) -> None:
    """Replace the table in one step; a reader sees the old one or the new one, never a mixture.

    The file is readable for its group, which is the gateway's.

    Raises:
        OSError: the folder is missing, full or not writable.
    """
    replace(path, msgspec.json.encode(table))


def replace(path: Path, data: bytes) -> None:
    """Replace a file of the gateway's in one step, readable for its owner and its group.

    Raises:
        OSError: the folder is missing, full or not writable.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o640)  # whatever the umask says: the group is the gateway
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def parse(content: bytes, *, element: str) -> Parsed:
    """Read a table's bytes. A route that cannot be used is refused alone; a fallback that cannot, without its route.

    Raises:
        Invalid: they are not a routing table, or too many.
    """
    if len(content) > MAX_BYTES:
        raise Invalid(f"a routing table of more than {MAX_BYTES} bytes", element=element)
    try:
        return Parsed(_decoder.decode(content), {})
    except msgspec.ValidationError:
        pass  # looked at route by route
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_a_table(element, error) from error
    try:
        rough = _rough.decode(content)
    except msgspec.ValidationError as error:
        raise _not_a_table(element, error) from error
    slots: dict[Slug, Route] = {}
    refused: dict[str, str] = {}
    for name, found in rough.slots.items():
        for tried in (found, {**found, "fallback": None}):
            try:
                slots[slug(name, what="slot")] = msgspec.convert(tried, Route)
                break
            except (Invalid, msgspec.ValidationError) as error:
                refused.setdefault(name, str(error))
    return Parsed(Table(generation=rough.generation, slots=slots), refused)


def _not_a_table(element: str, error: Exception) -> Invalid:
    return Invalid(
        f"not a routing table: {error}", element=element, remedy="restart edgefleet-agent, which writes it anew"
    )


def read(path: Path) -> Table:
    """Read the table from its file.

    Raises:
        Invalid: the file is no routing table.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return parse(file.read(MAX_BYTES + 1), element=str(path)).table
