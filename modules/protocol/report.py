"""What a device says of itself: the signed report, the status that a last will can send, and the server's receipt."""

from typing import Annotated, Final, Literal

import msgspec

from modules.names import DeviceField, DigestField, SlugField

LIMIT: Final = 256 << 10
STATUS_LIMIT: Final = 1 << 10


class Reason(msgspec.Struct, frozen=True):
    """Why: the error's code (modules.errors) and its sentence for the operator."""

    code: str
    message: str


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A module that holds or held a slot's traffic."""

    module: str
    digest: DigestField
    provider: str = ""
    engine: str = ""
    proved: bool = True


class SlotReport(msgspec.Struct, frozen=True, kw_only=True):
    """One slot: the module it works towards, in which phase and why, and the one that answers meanwhile.

    ``times`` are Unix seconds at which the wanted module entered each phase, in order.
    """

    slot: SlugField
    phase: str
    module: str
    digest: DigestField
    attempts: int = 0
    reason: Reason | None = None
    serving: Running | None = None
    progress: float | None = None
    times: tuple[tuple[str, float], ...] = ()


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An order or command that was not accepted."""

    what: str
    reason: Reason
    at: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the envelope at ``up/report``; ``number`` grows by one and is never used twice."""

    format: Literal["edgefleet.report/1"] = "edgefleet.report/1"
    device: DeviceField
    number: Annotated[int, msgspec.Meta(ge=1)]
    issued: float
    order: int
    agent: str
    slots: tuple[SlotReport, ...] = ()
    refusals: tuple[Refusal, ...] = ()


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """``up/status``, retained; ``boot`` counts sessions so that an old will cannot mark a new session dead."""

    format: Literal["edgefleet.status/1"] = "edgefleet.status/1"
    online: bool
    boot: int


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """``down/ack``: the highest report number that is committed to the server's database."""

    format: Literal["edgefleet.ack/1"] = "edgefleet.ack/1"
    report: int
