"""Batch jobs on targets, as the server tells of them."""

import time
from typing import Any, Final

import msgspec

from fleet.client.api import Fleet
from fleet.client.screen import Counted, Step
from modules.errors import Transient

ENDED: Final = frozenset({"done", "failed", "cancelled"})
_ASK_AGAIN_S: Final = 1.0


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

    @property
    def where(self) -> str:
        """Its target, or its device."""
        return self.target or self.device or ""


def start(fleet: Fleet, request: dict[str, Any]) -> BatchJob:
    return msgspec.convert(fleet.answer("POST", "batch-jobs", request), BatchJob)


def every(fleet: Fleet) -> list[BatchJob]:
    return msgspec.convert(fleet.answer("GET", "batch-jobs"), list[BatchJob])


def one(fleet: Fleet, name: str) -> BatchJob:
    return msgspec.convert(fleet.answer("GET", f"batch-jobs/{name}"), BatchJob)


def cancel(fleet: Fleet, name: str) -> BatchJob:
    return msgspec.convert(fleet.answer("POST", f"batch-jobs/{name}/cancel"), BatchJob)


def logs(fleet: Fleet, name: str, *, lines: int) -> dict[str, str]:
    return msgspec.convert(fleet.answer("GET", f"batch-jobs/{name}/logs?lines={lines}"), dict[str, str])


def watch(fleet: Fleet, name: str, step: Step) -> BatchJob:
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
