"""What a device says of itself: the signed report, the status that a last will can send, and the server's receipt."""

from typing import Annotated, Final, Literal

import msgspec

from modules.bounds import Count, Epoch, Line, Number, Sentence, Share, Time, Word
from modules.names import DeviceField, DigestField, SlugField
from modules.protocol.batch import MAX_JOBS, JobReport
from modules.protocol.measured import Measured

LIMIT: Final = 256 << 10
STATUS_LIMIT: Final = 1 << 10
MAX_TIMES: Final = 64
MAX_SLOTS: Final = 256
MAX_REFUSALS: Final = 64


class Reason(msgspec.Struct, frozen=True):
    """Why: the error's code (modules.errors) and its sentence for the operator."""

    code: Word
    message: Sentence


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A module that holds or held a slot's traffic."""

    module: Line
    digest: DigestField
    provider: Word = ""
    engine: Word = ""
    proved: bool = True


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the committed module of a slot is, whatever the wanted one does meanwhile.

    ``state`` is ``up``, ``restarting`` (it ended or went silent, and is being started again) or ``degraded`` (that has
    failed often and goes on for ever; the fallback serves); ``restarts`` counts since it was last steady.
    """

    state: Word
    restarts: Count = 0
    reason: Reason | None = None


class SlotReport(msgspec.Struct, frozen=True, kw_only=True):
    """One slot: the module it works towards, in which phase and why, and the one that answers meanwhile.

    ``times`` are Unix seconds at which the wanted module entered each phase, in order. ``current`` is the committed
    module's own health, None where none is committed, and from devices of before. ``measured`` is what was measured of
    the wanted module while it serves, ``before`` what was measured last of the one that it replaced.
    """

    slot: SlugField
    phase: Word
    module: Line
    digest: DigestField
    attempts: Count = 0
    reason: Reason | None = None
    serving: Running | None = None
    progress: Share | None = None
    times: Annotated[tuple[tuple[Word, Time], ...], msgspec.Meta(max_length=MAX_TIMES)] = ()
    current: Health | None = None
    measured: Measured | None = None
    before: Measured | None = None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An order or command that was not accepted."""

    what: Line
    reason: Reason
    at: Time


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of the envelope at ``up/report``; ``number`` grows by one and is never used twice in its epoch.

    ``jobs`` are the batch jobs that this device was given, the newest last; those that have ended go after a while.
    """

    format: Literal["edgefleet.report/1"] = "edgefleet.report/1"
    device: DeviceField
    number: Number
    issued: Time
    order: Count
    agent: Word
    slots: Annotated[tuple[SlotReport, ...], msgspec.Meta(max_length=MAX_SLOTS)] = ()
    refusals: Annotated[tuple[Refusal, ...], msgspec.Meta(max_length=MAX_REFUSALS)] = ()
    jobs: Annotated[tuple[JobReport, ...], msgspec.Meta(max_length=MAX_JOBS)] = ()
    epoch: Epoch = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """``up/status``, retained; ``boot`` counts sessions so that an old will cannot mark a new session dead."""

    format: Literal["edgefleet.status/1"] = "edgefleet.status/1"
    online: bool
    boot: Count
    epoch: Epoch = ""


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """``down/ack``: the highest numbers of an epoch that are committed to the server's database.

    ``twice`` says that a report with this very number came before, with other words: this one was not taken.
    ``telemetry`` counts messages of telemetry, whatever their stream (modules/protocol/telemetry.py); 0: none.
    """

    format: Literal["edgefleet.ack/1"] = "edgefleet.ack/1"
    report: Count
    epoch: Epoch = ""
    twice: bool = False
    telemetry: Count = 0
