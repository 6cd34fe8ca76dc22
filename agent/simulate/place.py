"""One slot of a simulated device: what was ordered, how far it is, what serves; and how a report says it."""

import asyncio
from typing import Final

from modules.names import ModuleRef, Slug
from modules.protocol.measured import Measured
from modules.protocol.order import SlotOrder
from modules.protocol.report import Health, Reason, Running, SlotReport

_UP: Final = Health(state="up")


class Place:
    """Its wanted module and phase, and apart from them the one that is committed."""

    __slots__ = (
        "before",
        "current",
        "health",
        "measured",
        "module",
        "ordered",
        "phase",
        "previous",
        "provider",
        "reason",
        "slot",
        "task",
        "times",
    )

    def __init__(self, slot: Slug, ordered: SlotOrder) -> None:
        self.slot = slot
        self.current: Running | None = None
        self.previous: Running | None = None
        self.measured: Measured | None = None
        self.task: asyncio.Task[None] | None = None
        self.phase = ""
        self.want(ordered)

    def want(self, ordered: SlotOrder) -> None:
        """Begin the way of another module, from nowhere; the committed one stays."""
        self.ordered = ordered
        self.module = str(ModuleRef.from_target(ordered.manifest))
        self.before, self.measured = self.measured, None
        self.reason: Reason | None = None
        self.health = _UP
        self.provider = ""
        self.times: tuple[tuple[str, float], ...] = ()

    def at(self, phase: str, now: float, reason: Reason | None = None) -> None:
        self.phase, self.reason = phase, reason
        self.times = (*self.times, (phase, now))

    def commit(self) -> None:
        """The wanted module is the committed one; the one before can come back."""
        self.previous = self.current
        self.current = Running(
            module=self.module, digest=self.ordered.digest, provider=self.provider, engine=self.ordered.engine
        )

    def go_back(self) -> None:
        """A committed module was no good: the one before it serves again."""
        self.current, self.previous = self.previous, None
        self.measured = None

    def report(self) -> SlotReport:
        return SlotReport(
            slot=self.slot,
            phase=self.phase,
            module=self.module,
            digest=self.ordered.digest,
            reason=self.reason,
            serving=None if self.health.state == "degraded" else self.current,
            times=self.times,
            current=self.health if self.current is not None else None,
            measured=self.measured,
            before=self.before,
        )


def content(ordered: SlotOrder) -> tuple[object, ...]:
    """What makes it another module to a device; the rest of the order only changes what it does with it."""
    return ordered.digest, ordered.engine, ordered.settings
