"""How many bytes a second pulls and broadcasts may take: of this server in all, and of each device.

A device's limit is the setting for all, or the lowest of those that its labels name, where that is lower.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from modules.bucket import Bucket
from modules.errors import BadSettings
from modules.names import DeviceId

log = logging.getLogger(__name__)

# Lower, and a block takes longer than a device waits for it.
LEAST: Final = 16 << 10
# Labels change seldom; a limit follows within this time.
_KEPT_S: Final = 60.0
_MOST_KEPT: Final = 20_000

LabelsOf = Callable[[DeviceId], Mapping[str, str]]


class LabelLimit(NamedTuple):
    """Devices with this label have at most so many bytes a second."""

    label: str
    value: str
    rate: int


def read_label_limits(text: str) -> tuple[LabelLimit, ...]:
    """``link=lte:50000, site=ship:20000``.

    Raises:
        BadSettings: a part is not LABEL=VALUE:BYTES, or a limit is too low.
    """
    found = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        selector, _, rate = part.rpartition(":")
        label, equals, value = selector.partition("=")
        if not label or not equals or not value or not rate.isdecimal() or int(rate) < LEAST:
            raise BadSettings(
                f"{part[:80]!r} is not LABEL=VALUE:BYTES with at least {LEAST} bytes a second",
                element="device_limits",
                remedy="write link=lte:50000, more of them with commas between",
            )
        found.append(LabelLimit(label, value, int(rate)))
    return tuple(found)


class Limits:
    """``total`` and ``device`` are in bytes per second, 0 for no limit; ``labels_of`` may block."""

    def __init__(
        self,
        *,
        total: int = 0,
        device: int = 0,
        by_label: tuple[LabelLimit, ...] = (),
        labels_of: LabelsOf = lambda _: {},
    ) -> None:
        self._total = Bucket(total)
        self._device, self._by_label, self._labels_of = device, by_label, labels_of
        self._kept: OrderedDict[DeviceId, tuple[float, Bucket | None]] = OrderedDict()

    async def pass_on(self, size: int) -> None:
        """Wait until the server may send so many bytes."""
        if wait := self._total.take(size):
            await asyncio.sleep(wait)

    def takes_s(self, size: int) -> float:
        """How long the server needs for so many bytes."""
        return size / self._total.rate if self._total.rate else 0.0

    async def of(self, device: DeviceId) -> Bucket | None:
        """What this device may have; None: there is no limit for it."""
        if not self._device and not self._by_label:
            return None
        read, bucket = self._kept.get(device, (float("-inf"), None))
        if time.monotonic() - read < _KEPT_S:
            return bucket
        rate = await self._rate(device)
        if rate is not None and (bucket.rate if bucket else 0) != rate:
            bucket = Bucket(rate) if rate else None
        self._kept[device] = (time.monotonic(), bucket)
        self._kept.move_to_end(device)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return bucket

    async def _rate(self, device: DeviceId) -> int | None:
        """Bytes a second; None where the database cannot say, and it stays as it was."""
        if not self._by_label:
            return self._device
        try:
            labels = await asyncio.to_thread(self._labels_of, device)
        except Exception as error:  # noqa: BLE001 - whatever the database has; the pulse tells of it
            log.debug("the labels of %s are not to be had: %s", device, error)
            return None if device in self._kept else self._device
        rates = [one.rate for one in self._by_label if labels.get(one.label) == one.value]
        return min([*rates, *([self._device] if self._device else [])], default=0)
