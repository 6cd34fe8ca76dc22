"""Batch jobs on targets, as the server tells of them."""

import time
from typing import Any, Final

import msgspec

from fleet.client.api import Fleet
from fleet.client.screen import Counted, Step
from modules.errors import Refused, Transient

ENDED: Final = frozenset({"done", "failed", "cancelled"})
_ASK_AGAIN_S: Final = 1.0
_MISSING: Final = "missing"


class BatchJob(msgspec.Struct, frozen=True):
    """A batch job: what was asked for, and how it stood at the server's last look."""

    name: str
    target: str | None
    device: str | None
    team: str
    module: str
    inputs: str
    outputs: str
    settings: dict[str, Any]
    state: str
    since: float
    why: str
    items: int
    answered: int
    set_aside: int
    starts: int
    created: float
    by: str
    #: what all that were asked for together are called
    batch: str | None = None

    @property
    def where(self) -> str:
        """Its target, or its device."""
        return self.target or self.device or ""


class OfDevice(msgspec.Struct, frozen=True):
    """How far a batch job is on one of its devices."""

    name: str
    device: str
    state: str
    since: float
    why: str
    items: int
    answered: int
    set_aside: int
    starts: int


class Misfit(msgspec.Struct, frozen=True):
    """A device that is meant and gets no job, and why."""

    device: str
    why: str


class Batch(msgspec.Struct, frozen=True):
    """A batch job on many devices, added up; ``jobs`` are those of each, where one was asked for."""

    name: str
    selector: str
    state: str
    devices: int
    states: dict[str, int]
    items: int
    answered: int
    set_aside: int
    since: float
    team: str
    module: str
    inputs: str
    outputs: str
    settings: dict[str, Any]
    created: float
    by: str
    jobs: list[OfDevice] = []
    misfits: list[Misfit] = []

    @property
    def where(self) -> str:
        """How many devices it is on."""
        return f"{self.devices} devices"

    @property
    def why(self) -> str:
        """How many of them are how far."""
        return ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))


def start(fleet: Fleet, request: dict[str, Any]) -> BatchJob:
    return msgspec.convert(fleet.answer("POST", "batch-jobs", request), BatchJob)


def start_on_many(fleet: Fleet, request: dict[str, Any]) -> Batch:
    return msgspec.convert(fleet.answer("POST", "batches", request), Batch)


def every(fleet: Fleet) -> list[BatchJob | Batch]:
    """All jobs, the newest first; those that were asked for together as one."""
    alone = msgspec.convert(fleet.answer("GET", "batch-jobs"), list[BatchJob])
    together = msgspec.convert(fleet.answer("GET", "batches"), list[Batch])
    found: list[BatchJob | Batch] = [*(one for one in alone if not one.batch), *together]
    return sorted(found, key=lambda one: -one.created)


def one(fleet: Fleet, name: str) -> BatchJob | Batch:
    """The job of this name, in one place or on many devices."""
    return _either(fleet, "GET", name)


def cancel(fleet: Fleet, name: str) -> BatchJob | Batch:
    """End it, in one place or on many devices."""
    return _either(fleet, "POST", f"{name}/cancel")


def logs(fleet: Fleet, name: str, *, lines: int) -> dict[str, str]:
    return msgspec.convert(fleet.answer("GET", f"batch-jobs/{name}/logs?lines={lines}"), dict[str, str])


def watch(fleet: Fleet, name: str, step: Step) -> BatchJob | Batch:
    """Wait until it has ended; a server that is away for a while is waited for."""
    found = one(fleet, name)
    while found.state not in ENDED:
        step(Counted("asking"), found.answered + found.set_aside, found.items)
        time.sleep(_ASK_AGAIN_S)  # HTTP has nothing to await; the server is asked once a second
        try:
            found = one(fleet, name)
        except Transient:
            continue
    return found


def _either(fleet: Fleet, method: str, rest: str) -> BatchJob | Batch:
    """What has this name: names are never both's."""
    try:
        return msgspec.convert(fleet.answer(method, f"batch-jobs/{rest}"), BatchJob)
    except Refused as error:
        if error.code != _MISSING:
            raise
    return msgspec.convert(fleet.answer(method, f"batches/{rest}"), Batch)
