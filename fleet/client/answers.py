"""What the fleet server answers, as far as the client reads it; fields that it does not know are passed over."""

from typing import Any, Literal

import msgspec

from modules.manifest import Manifest
from modules.protocol.facts import Facts
from modules.protocol.measured import Measured
from modules.protocol.report import Health as ModuleHealth
from modules.protocol.report import Reason, Report, Running


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /healthz``; ``broker`` is ``connected`` or says what is wrong.

    ``warnings`` say what somebody has to look at before it ends.
    """

    status: str
    version: str = ""
    broker: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """One registered module version; a draft until its team's key has signed it. Times here are Unix seconds.

    ``bytes`` is what it takes; ``signers`` are the ids of the team's keys that have signed it.
    """

    ref: str
    digest: str
    state: Literal["draft", "signed"]
    created: float | None = None
    bytes: int | None = None
    manifest: Manifest | None = None
    signers: tuple[str, ...] = ()


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """The certificate that a device uses; ``serial`` in hexadecimal."""

    serial: str
    ends: float
    renewal_due: float


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One device as the server knows it; ``order`` is what it should run, ``report`` what it says it runs.

    ``revoked`` and ``certificate`` stand in the answer for one device alone.
    """

    id: str
    labels: dict[str, str] = {}
    online: bool = False
    state: str = ""
    last_seen: float | None = None
    facts: Facts | None = None
    order: dict[str, Any] | None = None
    report: Report | None = None
    revoked: float | None = None
    certificate: Certificate | None = None
    removed: float | None = None
    removed_by: str = ""


class CommandPart(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to a command, without its bytes."""

    part: int
    at: float
    state: str
    progress: float | None = None
    bytes: int = 0


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command to one device, and where it stands; ``answers`` counts the parts that the server took."""

    id: str
    number: int = 0
    batch: str = ""
    device: str
    online: bool = False
    name: str
    slot: str | None = None
    arguments: dict[str, float] = {}
    issued: float
    expires: float
    by: str = ""
    state: str
    sent: float | None = None
    heard: float | None = None
    ended: float | None = None
    answers: int = 0
    bytes: int = 0
    progress: float | None = None
    note: str = ""
    reason: Reason | None = None
    content: str = ""
    parts: tuple[CommandPart, ...] = ()


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """A join bundle or a claim, without what is secret in it; ``waiting`` devices of it wait for approval."""

    id: int
    kind: str
    created: float
    by: str = ""
    expires: float | None = None
    uses: int | None = None
    uses_left: int | None = None
    labels: dict[str, str] = {}
    approve: bool = False
    name: str | None = None
    readmit: bool = False
    revoked: float | None = None
    waiting: int = 0


class PendingDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device that waits for approval: the name that it asked for, its key's fingerprint, from where, since when."""

    name: str
    fingerprint: str
    address: str
    since: float
    expires: float
    join: int


class Misfit(msgspec.Struct, frozen=True, kw_only=True):
    """A device that the selector meant and the module does not fit."""

    device: str
    reasons: tuple[str, ...] = ()


class GivenCommand(msgspec.Struct, frozen=True, kw_only=True):
    """Which command is which device's."""

    id: str
    device: str


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The commands of one request, and the devices that got none."""

    batch: str
    commands: tuple[GivenCommand, ...] = ()
    misfits: tuple[Misfit, ...] = ()


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One device of a rollout: its phase as reported, why, what it serves, when each phase began, share fetched.

    ``standing`` is how the server counts it, and ``why`` a sentence where it is not done. ``current`` is how its
    committed module is; None from a server or device that does not say.
    """

    device: str
    wave: int = 1
    hardware: str = ""
    standing: str = ""
    phase: str = ""
    why: str = ""
    reason: Reason | None = None
    serving: Running | None = None
    current: ModuleHealth | None = None
    times: tuple[tuple[str, float], ...] = ()
    progress: float | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a rollout."""

    at: float
    what: str


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """An event that somebody should look at; ``device`` is None where it is about none."""

    at: float
    kind: str
    device: str | None = None
    message: str = ""


class AuditHeads(msgspec.Struct, frozen=True, kw_only=True):
    """Signed heads of the audit log, each an envelope as text; ``key`` as the server tells it."""

    key: dict[str, Any]
    heads: list[str]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """A sample of telemetry; ``slot`` is None for the whole device, ``at`` where its clock had not been set.

    ``stream`` and ``received`` stand in a history alone.
    """

    slot: str | None = None
    at: float | None = None
    figures: dict[str, float] = {}
    stream: str = ""
    received: float | None = None


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """The newest message of a stream; ``dropped`` counts what the device had no room for."""

    stream: str
    received: float
    dropped: int = 0
    samples: tuple[Figures, ...] = ()


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """What a device measured of itself; ``history`` only where it was asked for."""

    device: str
    streams: tuple[Stream, ...] = ()
    history: tuple[Figures, ...] | None = None


class ExportColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column of an exported table; ``references`` names the table whose key it is."""

    name: str
    type: Literal["INTEGER", "REAL", "TEXT"]
    about: str = ""
    references: str = ""
    index: bool = False


class ExportTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table that the server gives out; ``rows`` is how many there are, or of how many devices."""

    name: str
    about: str = ""
    key: tuple[str, ...]
    columns: tuple[ExportColumn, ...]
    rows: int = 0


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What can be exported; ``at`` is the server's time."""

    server: str
    at: float
    tables: tuple[ExportTable, ...]


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of hardware that a rollout was stopped for."""

    hardware: str
    reason: str = ""


class PlannedWave(msgspec.Struct, frozen=True, kw_only=True):
    """A wave of a dry run."""

    wave: int
    rule: str = ""
    percent: int = 0
    devices: tuple[Target, ...] = ()


class RolloutPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollout would do. Bytes by platform and accelerator: what a device fetches that has nothing of it yet."""

    module: str
    version: str = ""
    before: str = ""
    starts: float | None = None
    waves: tuple[PlannedWave, ...] = ()
    misfits: tuple[Misfit, ...] = ()
    download_bytes: dict[str, int] = {}


class AutoRollout(msgspec.Struct, frozen=True, kw_only=True):
    """A rule by which newly signed versions of a model start rollouts; ``last`` is the version that it started last.

    They are of devices, or of an ``endpoint``.
    """

    name: str
    model: str
    slot: str = ""
    selector: str = "*"
    endpoint: str | None = None
    tags: dict[str, str] = {}
    last: str | None = None
    rollout: str | None = None


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What a wave gives an endpoint's new version of the requests, and what was counted of it and of the one before."""

    wave: int
    percent: int
    standing: str
    phase: str = ""
    why: str = ""
    measured: Measured | None = None
    replaced: Measured | None = None


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout; in a list of them without its devices, misfits and history.

    ``counts`` say how many devices stand where; of many, only some are in ``devices``. ``waits_for`` is why the next
    wave is not open; ``started_by`` is who started it, where that may be said; ``forgotten`` is since when its devices
    and history are not kept any more. On an ``endpoint`` requests go from ``before`` to ``version``, by ``shares``.
    """

    id: str
    module: str = ""
    slot: str = ""
    state: str
    wave: int = 1
    waves: int = 1
    created: float | None = None
    starts: float | None = None
    started_by: str = ""
    waits_for: str = ""
    forgotten: float | None = None
    counts: dict[str, int] = {}
    stopped: tuple[Stopped, ...] = ()
    devices: tuple[Target, ...] = ()
    misfits: tuple[Misfit, ...] = ()
    history: tuple[Event, ...] = ()
    endpoint: str | None = None
    version: str = ""
    before: str = ""
    shares: tuple[Share, ...] = ()


class EndpointVersion(msgspec.Struct, frozen=True):
    """One version behind an endpoint: its share of the requests in percent, and how many replicas answer."""

    module: str
    weight: int
    replicas: int
    ready: int
    provider: str


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint costs, by the operator's own prices of a replica an hour and of a thousand requests."""

    price_per_hour: float = 0.0
    price_per_1000: float = 0.0
    today: float = 0.0
    replica_hours_today: float = 0.0
    requests_today: int = 0

    @property
    def prices(self) -> str:
        """In words; empty: nobody has said any."""
        hour = f"{self.price_per_hour:g} a replica an hour" if self.price_per_hour else ""
        requests = f"{self.price_per_1000:g} for 1000 requests" if self.price_per_1000 else ""
        return " and ".join(filter(None, (hour, requests)))


class Demand(msgspec.Struct, frozen=True):
    """How many replicas of an endpoint run by need, and why."""

    replicas: int
    why: str


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint in the cloud: what is wished for, and how it stood at the server's last look."""

    name: str
    target: str
    team: str
    generation: int
    state: str
    since: float
    why: str
    url: str
    swagger_url: str
    default: str
    versions: dict[str, EndpointVersion]
    settings: dict[str, Any]
    created: float
    by: str
    demand: Demand | None = None
    costs: Costs | None = None
