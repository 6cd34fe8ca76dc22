"""What the fleet server answers, as far as the client reads it; fields that it does not know are passed over."""

from typing import Any, Literal

import msgspec

from modules.manifest import Manifest


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /healthz``; ``broker`` is ``connected`` or says what is wrong."""

    status: str
    version: str = ""
    broker: str = ""


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """One registered module version; a draft until its team's key has signed it."""

    ref: str
    digest: str
    state: Literal["draft", "signed"]
    created: Any = None
    manifest: Manifest | None = None


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One device as the server knows it; ``last_seen`` as the server writes times."""

    id: str
    labels: dict[str, str] = {}
    online: bool = False
    last_seen: Any = None
    facts: dict[str, Any] | None = None
    order: dict[str, Any] | None = None
    report: dict[str, Any] | None = None


class Misfit(msgspec.Struct, frozen=True, kw_only=True):
    """A device that the selector meant and the module does not fit."""

    device: str
    reasons: tuple[str, ...] = ()


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One device of a rollout: its phase as reported, why, what it serves, when each phase began, share fetched."""

    device: str
    phase: str = ""
    reason: Any = None
    serving: Any = None
    times: Any = ()
    progress: float | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a rollout."""

    at: Any
    what: str


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout as :meth:`fleet.client.api.Fleet.rollout` shows it."""

    id: str
    module: str = ""
    slot: str = ""
    state: str
    wave: int = 1
    waves: int = 1
    devices: tuple[Target | str, ...] = ()
    misfits: tuple[Misfit, ...] = ()
    history: tuple[Event, ...] = ()
