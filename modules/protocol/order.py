"""The order: what should run on one device. Signed by the director, retained at ``down/order``; the newest wins."""

from typing import Annotated, Final, Literal

import msgspec

from modules.names import DeviceField, DigestField, SlugField

LIMIT: Final = 256 << 10
SettingValue = float | str | bool


class SlotOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What should fill one slot: the manifest by path and digest, the engine, and adjustable settings.

    How long the manifest is, the publisher has signed; the director need not say it again.
    """

    manifest: str
    digest: DigestField
    engine: Literal["docker", "process"] = "docker"
    settings: dict[str, SettingValue] = {}
    fallback: str | None = None


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The payload of the envelope. Times are Unix seconds; ``waivers`` are digests that may be tried again.

    The order is complete: a slot that it does not name is removed from the device.
    """

    format: Literal["edgefleet.order/1"] = "edgefleet.order/1"
    device: DeviceField
    counter: Annotated[int, msgspec.Meta(ge=1)]
    issued: int
    expires: int
    slots: dict[SlugField, SlotOrder] = {}
    waivers: tuple[DigestField, ...] = ()
