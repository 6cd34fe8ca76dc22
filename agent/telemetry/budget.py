"""How much may be sent: never more than so many bytes in any 24 hours. Pure."""

from typing import Annotated, Final

import msgspec

_DAY_S: Final = 86400.0
# A quarter may go at once, and the rest comes as the day goes: so no 24 hours ever see more than the whole.
_AT_ONCE: Final = 0.25


class Purse(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes that could be sent at a moment of a boot (seconds of that boot)."""

    boot: str
    at: float
    left: Annotated[float, msgspec.Meta(ge=0)]


class Budget:
    """So many bytes a day."""

    def __init__(self, day_bytes: int) -> None:
        self.most = day_bytes * _AT_ONCE
        self._rate = day_bytes * (1 - _AT_ONCE) / _DAY_S

    def now(self, purse: Purse | None, *, boot: str, at: float) -> Purse:
        """What may be sent now. The time that the machine was off brings nothing: nobody knows how long it was."""
        if purse is None:
            return Purse(boot=boot, at=at, left=self.most)
        since = max(at - purse.at, 0.0) if purse.boot == boot else 0.0
        return Purse(boot=boot, at=at, left=min(purse.left + since * self._rate, self.most))

    def wait(self, purse: Purse, size: int) -> float:
        """Seconds until ``size`` bytes may be sent; 0: now. What is more than a quarter may go when that is there."""
        return max(min(size, self.most) - purse.left, 0.0) / self._rate

    def spent(self, purse: Purse, size: int) -> Purse:
        return msgspec.structs.replace(purse, left=max(purse.left - size, 0.0))
