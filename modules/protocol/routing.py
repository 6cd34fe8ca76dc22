"""The gateway's routing table, the document: who serves which slot, or which endpoint in the cloud.

On a device the agent writes it, before an endpoint the fleet server; ``agent/gateway/table.py`` reads the file. Nothing
heavier than msgspec is imported here, because the gateway carries it.
"""

from typing import Annotated

import msgspec

from modules.bounds import Count, Line, Sentence
from modules.names import SlugField

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
    module: Line
    provider: Line
    instance: Line
    memory_mb: Annotated[int, msgspec.Meta(ge=0, le=1 << 33)] = 0


class Overload(msgspec.Struct, frozen=True, kw_only=True):
    """From when on a slot has more to do than it can: so many wait, or an answer takes so long (0 ms: no matter)."""

    waiting: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    latency_ms: Annotated[float, msgspec.Meta(ge=0, le=3_600_000)] = 0.0


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """The same module in the cloud, asked when no instance on this device can be reached.

    ``url`` is the base address to which ``/score`` is appended. ``ca`` is the file of authorities to trust instead of
    the system's, ``cert`` and ``key`` the device's own certificate and key (PEM files that the gateway may read). They
    are read again when the table changes, so after a renewal the agent writes the table with the next generation.
    ``module`` is the reference that runs there, where the agent knows it. ``token`` is a file with what lets the device
    in instead of its certificate. It is asked where nobody here is reached, if ``stands_in``, and where there is an
    ``overload``; at most ``requests_a_day`` by UTC (0: as often as need be). With ``closed`` nobody is asked there, and
    whoever nobody else answers is told so.
    """

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^/?#]+[^?#]*\Z", max_length=1000)]
    ca: Line | None = None
    cert: Line | None = None
    key: Line | None = None
    module: Line = ""
    token: Line | None = None
    stands_in: bool = True
    overload: Overload | None = None
    requests_a_day: Count = 0
    closed: Sentence | msgspec.UnsetType = msgspec.UNSET


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One scoring server of an endpoint, in a network that only its gateway reaches.

    ``url`` is its base address, ``key`` what it lets its gateway in by; empty: it asks for none. It may be silent for
    ``answer_s`` seconds; 0: as long as the gateway's settings say. One that keeps a request waiting and gives no sign
    of life for ``silent_s`` seconds is asked by nobody until it gives one; 0: none is asked for, as where several stand
    behind one address. The others are as in :class:`Upstream`.
    """

    url: Annotated[str, msgspec.Meta(pattern=r"^http://[^/?#@]+\Z", max_length=1000)]
    module: Line
    provider: Line
    instance: Line
    memory_mb: Annotated[int, msgspec.Meta(ge=0, le=1 << 33)] = 0
    key: Line = ""
    answer_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0
    silent_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one route may take on, where it is not the gateway's own settings that say so.

    ``concurrent`` requests are worked on at a time, and ``waiting`` may wait for ``wait_s`` seconds.
    """

    concurrent: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    waiting: Annotated[int, msgspec.Meta(ge=0, le=100_000)]
    wait_s: Annotated[float, msgspec.Meta(gt=0, le=3600)]


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a module behind an endpoint: its share of the requests, in percent, and its replicas.

    Where these are ways to one address for all, ``each`` is another, under whose name every one of them is found.
    """

    name: SlugField
    weight: Annotated[int, msgspec.Meta(ge=0, le=100)]
    replicas: Annotated[tuple[Replica, ...], msgspec.Meta(max_length=256)] = ()
    each: Annotated[str, msgspec.Meta(pattern=r"^(http://[^/?#@]+)?\Z", max_length=1000)] = ""


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
    bounds: Bounds | None = None


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All slots of the device. ``generation`` grows by one with each write, for the logs of both sides."""

    generation: Count
    slots: Annotated[dict[SlugField, Route], msgspec.Meta(max_length=10_000)]
