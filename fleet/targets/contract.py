"""What every kind of target can do. ``fleet/targets/duty.py`` asks for it again and again, whatever happened before.

Each call looks at what is there first and changes only what differs, so that calling it twice does no more than once,
a crash between two calls loses nothing, and what somebody changed by hand is put back. What a target made carries the
fleet's mark and the endpoint's name; nothing else is touched.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from fleet.targets.settings import BatchSettings, Settings
from modules.counted import Counted, Looked
from modules.manifest import Manifest
from modules.names import Digest, Slug

State = Literal["ready", "updating", "failed", "stopped"]


class Module(msgspec.Struct, frozen=True):
    """A signed module that a version serves."""

    digest: Digest
    manifest: Manifest


class WantedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version as it should be; the first of an endpoint is its default. ``secrets`` are files for its module."""

    name: Slug
    module: Module
    weight: int
    replicas: int
    secrets: Mapping[str, bytes] = {}


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """Which devices come in: ``only`` these, named by this authority (PEM), and by no revoked serial number."""

    ca: str
    revoked: Sequence[str] = ()
    only: Sequence[str] = ()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it should be, with what lets clients in: two keys, the secret of its tokens, its TLS key.

    ``devices`` are those that come in by their certificates. ``port`` is where it has listened on its host or nodes;
    0: nowhere yet, and any will do. ``measured``: it is to be told what is counted of each version.
    """

    name: Slug
    versions: Sequence[WantedVersion]
    settings: Settings
    keys: tuple[str, str]
    token_secret: bytes
    certificate_key: str = ""
    devices: Devices | None = None
    port: int = 0
    measured: bool = False


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """What has been counted since whoever counts began, each by itself; None: it does not say.

    A gateway counts what clients saw of a replica, the replica its answers, the target its starts.
    """

    seen: Counted | None = None
    answers: Looked | None = None
    restarts: int | None = None


class VersionStands(msgspec.Struct, frozen=True, kw_only=True):
    """How many replicas of a version answer, and which provider they use.

    ``wrong`` says why it will not get ready as it is. ``lives`` are counts by whose they are, and ``memory_mb`` the
    memory of its largest replica, where they are asked for.
    """

    module: str
    weight: int
    wanted: int
    ready: int
    provider: str = ""
    wrong: str = ""
    lives: Mapping[str, Life] = {}
    memory_mb: float | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint stands after a look: ``why`` it is not ready, in one sentence, and where clients reach it.

    ``in_use``: clients are shared out between the versions as they are wanted, as far as these are ready. ``uncounted``
    is why not all that is counted of what clients saw is known, where it was asked for.
    """

    state: State
    why: str = ""
    url: str = ""
    versions: Mapping[str, VersionStands] = {}
    in_use: bool = False
    uncounted: str = ""


class Found(NamedTuple):
    """Something of this fleet's that stands on a target: an endpoint, or a batch job."""

    kind: Literal["endpoint", "job"]
    name: Slug

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Target(Protocol):
    """A place where endpoints live. Every call blocks, and raises ``TargetTrouble`` where the target does not play."""

    def check(self) -> dict[str, str]:
        """Whether it can be used; what it is, in words."""

    def bring(self, wanted: Wanted) -> Standing:
        """Take an endpoint one step nearer to what is wanted, and say how it stands."""

    def logs(self, endpoint: Slug, *, lines: int) -> dict[str, str]:
        """The last lines of each replica and of the gateway, by their names."""

    def remove(self, endpoint: Slug) -> bool:
        """Take an endpoint away; True once nothing of it is left."""

    def present(self) -> frozenset[Found]:
        """What of this fleet's stands there, by its labels alone."""

    def close(self) -> None:
        """Let connections go."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A batch job as it should run, until it has ended by itself.

    ``mark`` tells it from an earlier one of the same name; ``starts`` says how often it was started before;
    ``secrets`` are files for its module, the same as long as it lasts.
    """

    name: Slug
    mark: str
    module: Module
    inputs: str
    outputs: str
    settings: BatchSettings
    starts: int = 0
    secrets: Mapping[str, bytes] = {}


# A job on a device is paused while its device is not idle.
JobState = Literal["starting", "running", "paused", "done", "failed"]


class JobStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is; ``log`` is the end of its log once it has ended."""

    state: JobState = "starting"
    why: str = ""
    items: int = 0
    answered: int = 0
    set_aside: int = 0
    starts: int = 0
    log: str = ""


@runtime_checkable
class RunsJobs(Protocol):
    """A target that runs batch jobs as well. A job keeps what it knows beside its answers, so any start goes on."""

    def bring_job(self, job: Job) -> JobStanding:
        """Start it where it does not run and has not ended, and say how far it is."""

    def job_logs(self, name: Slug, *, lines: int) -> dict[str, str]:
        """The last lines of its log."""

    def end_job(self, name: Slug) -> bool:
        """End it, and take away what was made for it; its answers stay. True once nothing is left."""
