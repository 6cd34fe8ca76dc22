"""The order: what should run on one device. Signed by the director, retained at ``down/order``; the newest wins.

A field that a device does not know is skipped, unless the order says that it must be understood: so a newer server can
add what older devices may do without, and keeps an order from those that would do harm without it.
"""

from typing import Annotated, Final, Literal

import msgspec

from modules import canonical
from modules.bounds import (
    Address,
    Authorities,
    Count,
    Line,
    Number,
    Real,
    Region,
    SecretName,
    Sentence,
    WholeTime,
    Word,
)
from modules.errors import Invalid
from modules.names import DeviceField, DigestField, SlugField

LIMIT: Final = 256 << 10
MAX_SLOTS: Final = 64
MAX_SETTINGS: Final = 16
MAX_WAIVERS: Final = 64
MAX_WINDOWS: Final = 14
MAX_SECRETS: Final = 16
MAX_SEALED: Final = 8 << 10
# Under this name the token for an endpoint is sealed, which no secret of a module can have.
SEALED_AS: Final = "fallback token"
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
# Minutes of a day, as 22:30.
TimeOfDay = Annotated[str, msgspec.Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z")]
SettingValue = Real | Word | bool


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a device may switch, in its own time zone: on these days (none: on each), from a minute on, for so long.

    ``begins`` is written as 22:30; a window may reach into the next day.
    """

    days: Annotated[tuple[Day, ...], msgspec.Meta(max_length=7)] = ()
    begins: TimeOfDay
    minutes: Annotated[int, msgspec.Meta(ge=1, le=24 * 60)]


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """That the device is to measure the module while it serves: in windows of ``window_s``, until ``for_s`` are over.

    Both in seconds; the time counts from its probation on.
    """

    window_s: Annotated[int, msgspec.Meta(ge=5, le=86400)] = 60
    for_s: Annotated[int, msgspec.Meta(ge=5, le=366 * 86400)]


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that only this device can open (modules/sealing.py); a new value has a higher version."""

    version: Number
    sealed: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_SEALED)]


When = Literal["unplaceable", "unhealthy", "overloaded"]


class Cloud(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that answers instead of this device, and on which terms. Agents of before skip it, and ask nobody.

    ``when``: the module does not fit here (*unplaceable*), nothing here can be reached (*unhealthy*), or it is
    *overloaded*: ``waiting`` requests wait, or an answer takes ``latency_ms`` and more (0: no matter); empty: never.
    ``ca`` are the authorities to believe instead of the system's. A device may send ``requests_a_day`` by UTC (0: as
    many as it likes). Without a ``token`` its certificate says who it is. ``endpoint`` is the fleet's name of it.
    ``closed`` says why nobody is asked there today, by UTC; then ``when`` is empty, for agents of before.
    """

    url: Address
    when: Annotated[tuple[When, ...], msgspec.Meta(max_length=3)] = ("unplaceable", "unhealthy")
    region: Region = ""
    ca: Authorities = ""
    waiting: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 16
    latency_ms: Annotated[float, msgspec.Meta(ge=0, le=3_600_000)] = 0.0
    requests_a_day: Count = 0
    token: Secret | msgspec.UnsetType = msgspec.UNSET
    endpoint: Word = ""
    closed: Sentence | msgspec.UnsetType = msgspec.UNSET


class SlotOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What should fill one slot: the manifest by path and digest, the engine, and adjustable settings.

    How long the manifest is, the publisher has signed; the director need not say it again. With ``windows`` the device
    fetches at once and switches only within one of them. ``secrets`` are those that the manifest declares, by name.
    ``fallback`` is an address on the usual terms; with ``cloud`` it is left out. ``alone``: nobody elsewhere answers
    for it, whatever the policies of the server say; to the device this is as if nothing was said.
    """

    manifest: Line
    digest: DigestField
    engine: Literal["docker", "process"] = "docker"
    settings: Annotated[dict[Word, SettingValue], msgspec.Meta(max_length=MAX_SETTINGS)] = {}
    fallback: Address | None = None
    windows: Annotated[tuple[Window, ...], msgspec.Meta(max_length=MAX_WINDOWS)] | msgspec.UnsetType = msgspec.UNSET
    measure: Measure | msgspec.UnsetType = msgspec.UNSET
    secrets: Annotated[dict[SecretName, Secret], msgspec.Meta(max_length=MAX_SECRETS)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    cloud: Cloud | msgspec.UnsetType = msgspec.UNSET
    alone: bool | msgspec.UnsetType = msgspec.UNSET

    @property
    def elsewhere(self) -> Cloud | None:
        """Who answers instead of the device, however the order says it."""
        return self.cloud or (Cloud(url=self.fallback) if self.fallback is not None else None)

    @property
    def covers_misfits(self) -> bool:
        """Whether an endpoint answers for devices that the module does not fit, which are ordered it all the same."""
        return "unplaceable" in (self.cloud.when if self.cloud else ())


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the envelope. Times are Unix seconds; ``waivers`` are digests that may be tried again.

    The order is complete: a slot that it does not name is removed from the device. ``must_understand`` names fields,
    as ``order.window`` or ``slot.share``, without which the order would mean something else.
    """

    format: Literal["edgefleet.order/1"] = "edgefleet.order/1"
    device: DeviceField
    counter: Number
    issued: WholeTime
    expires: WholeTime
    slots: Annotated[dict[SlugField, SlotOrder], msgspec.Meta(max_length=MAX_SLOTS)] = {}
    waivers: Annotated[tuple[DigestField, ...], msgspec.Meta(max_length=MAX_WAIVERS)] = ()
    must_understand: Annotated[tuple[Word, ...], msgspec.Meta(max_length=32)] | msgspec.UnsetType = msgspec.UNSET


_UNDERSTOOD: Final = frozenset(
    f"{name}.{field}" for name, kind in (("order", Order), ("slot", SlotOrder)) for field in kind.__struct_fields__
)


def encode(order: Order) -> bytes:
    """The bytes that are signed; checks the order first, so that no device is sent what it cannot read.

    Raises:
        Invalid: as :func:`decode`.
    """
    data = canonical.encode(order)
    decode(data)
    return data


def decode(data: bytes) -> Order:
    """Read an order.

    Raises:
        Invalid: too large, not an order, something in it out of bounds, or a field that must be understood is unknown.
    """
    order = canonical.decode(data, Order, limit=LIMIT, what="order")
    if order.must_understand and (unknown := sorted(set(order.must_understand) - _UNDERSTOOD)):
        raise Invalid(
            f"it may only be followed by agents that know {', '.join(unknown)}, and this one does not",
            element="order",
            remedy="update the agent",
        )
    return order
