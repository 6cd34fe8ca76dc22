"""What the device remembers of a slot: the module it works towards, the one that is committed, and the one before."""

from typing import Final, Literal

import msgspec

from agent.phases import Mover, check
from hardware.container import Access
from modules.errors import EdgefleetError
from modules.names import Digest, Slug
from modules.protocol.measured import Measured
from modules.protocol.order import Cloud, Measure, Secret, SettingValue, Window
from modules.protocol.phases import Phase
from modules.protocol.report import Reason
from modules.words import printable

# A module that fails and recovers again and again must not make the report grow for ever.
_TIMES_KEPT: Final = 32
# A committed module that ends this often without answering in between goes back to the previous one, or is degraded.
MAX_RESTARTS: Final = 5


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted line of the order. ``module`` is the reference for people, ``digest`` the manifest's."""

    module: str
    digest: Digest
    engine: str
    settings: dict[str, SettingValue] = {}


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests go besides the instance: to ``fallback`` when nobody here answers, or as ``cloud`` says."""

    fallback: str | None = None
    cloud: Cloud | None = None

    @property
    def elsewhere(self) -> Cloud | None:
        return self.cloud or (Cloud(url=self.fallback) if self.fallback is not None else None)


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """How a module runs on this host, decided once: an accelerator that comes and goes changes nothing of it.

    ``runtime`` is its place among the manifest's runtimes.
    """

    runtime: int
    providers: tuple[str, ...]
    access: Access = Access()


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A wanted module that was started: under which instance name, on which provider, proved or only ready.

    ``since`` is when it was ready, in seconds of the boot. ``memory_mb`` is the limit that its engine holds it to, in
    MiB; 0 where it holds it to none. ``secrets`` are those that it is to have, sealed; ``given`` the versions that it
    has. ``signalled`` is when it was last told by a signal that they are new, in seconds of the boot.
    """

    wanted: Wanted
    instance: str
    socket: str
    chosen: Chosen | None = None
    routing: Routing = Routing()
    provider: str = ""
    memory_mb: int = 0
    proved: bool = True
    probation_s: float = 0.0
    since: float = 0.0
    secrets: dict[str, Secret] = {}
    given: dict[str, int] = {}
    signalled: float | None = None

    @property
    def ungiven(self) -> frozenset[str]:
        """The secrets of which it has another version than it is to have, or none, or one too many."""
        wanted = {name: one.version for name, one in self.secrets.items()}
        return frozenset(name for name in wanted | self.given if wanted.get(name) != self.given.get(name))


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of the wanted module since it serves, and last of the one that it replaced.

    ``spent_s`` are the seconds of all windows that have been closed.
    """

    measured: Measured | None = None
    before: Measured | None = None
    spent_s: float = 0.0


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The ordered module, and how far it is.

    ``times`` are Unix seconds, for people; everything that waits is in seconds of the boot. ``since`` is when it
    entered its phase; ``attempts`` counts tries in it, and ``not_before`` holds the next one back. ``candidate`` is
    what is being started or on probation, and ``stopped`` counts how often somebody ended it. Only within one of
    ``windows`` it is started, where there are any. ``measure`` says that it is measured while it serves.
    """

    wanted: Wanted
    routing: Routing = Routing()
    windows: tuple[Window, ...] = ()
    secrets: dict[str, Secret] = {}
    measure: Measure | None = None
    watched: Watched = Watched()
    phase: Phase = Phase.ACCEPTED
    times: tuple[tuple[str, float], ...] = ()
    reason: Reason | None = None
    since: float = 0.0
    attempts: int = 0
    stopped: int = 0
    not_before: float = 0.0
    progress: float | None = None
    chosen: Chosen | None = None
    candidate: Placed | None = None


class Upkeep(msgspec.Struct, frozen=True):
    """How the committed module is: ``trouble`` is why it does not answer now.

    ``restarts`` counts since it was last steady, and ``restart_after`` holds the next one back. ``excused`` are those
    of them whose end came with a client's request: what clients send is no evidence against a version.
    """

    restarts: int = 0
    excused: int = 0
    restart_after: float = 0.0
    trouble: Reason | None = None

    @property
    def state(self) -> Literal["up", "restarting", "degraded"]:
        if self.restarts > MAX_RESTARTS:
            return "degraded"
        return "restarting" if self.restarts or self.trouble else "up"


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the store: three things that change apart.

    ``target`` is the way of what was ordered. ``current`` is committed and answers whenever no candidate is on
    probation, ``upkeep`` is its own health. ``previous`` is kept on disk to go back to. Where requests go belongs to
    each of them (:class:`Routing`).
    """

    slot: Slug
    target: Target
    current: Placed | None = None
    upkeep: Upkeep = Upkeep()
    previous: Placed | None = None

    def to(self, phase: Phase, now: float, *, by: Mover = "device", **changes: object) -> "Slot":
        """The row one phase on, as the table allows; a reason and waiting times of the earlier phase are dropped.

        ``changes`` are as in :meth:`with_`.
        """
        check(self.phase, phase, by)
        fresh = {"reason": None, "not_before": 0.0, "progress": None, "attempts": 0}
        times = (*self.target.times, (str(phase), now))[-_TIMES_KEPT:]
        return self.with_(phase=phase, times=times, **{**fresh, **changes})

    def with_(self, **changes: object) -> "Slot":
        """The row with other values of its own fields, its target's or its upkeep's; no two have a name in common."""
        own = {name: changes.pop(name) for name in self.__struct_fields__ if name in changes}
        row = msgspec.structs.replace(self, **own)
        for part in ("target", "upkeep"):
            whole = getattr(row, part)
            here = {name: changes.pop(name) for name in whole.__struct_fields__ if name in changes}
            row = msgspec.structs.replace(row, **{part: msgspec.structs.replace(whole, **here)})
        if changes:
            raise TypeError(f"a slot has no {', '.join(changes)}")
        return row

    def in_new_boot(self) -> "Slot":
        """The row after the machine was started again: its seconds were another boot's, so they hold nothing back."""
        return self.with_(since=0.0, not_before=0.0, restart_after=0.0)

    @property
    def wanted(self) -> Wanted:
        return self.target.wanted

    @property
    def phase(self) -> Phase:
        return self.target.phase

    @property
    def candidate(self) -> Placed | None:
        return self.target.candidate

    @property
    def standing(self) -> Phase:
        """The phase as people are told it: what is committed and does not stay up is *degraded*."""
        bad = self.phase is Phase.COMMITTED and self.upkeep.state == "degraded"
        return Phase.DEGRADED if bad else self.phase

    @property
    def reason(self) -> Reason | None:
        """Why the target does not go on; once it is committed, why it does not answer."""
        return self.target.reason or (self.upkeep.trouble if self.phase is Phase.COMMITTED else None)

    @property
    def settled(self) -> "Slot | None":
        """The row as it would be if nothing but its committed module were known; None where none is committed.

        The module's own counts are left out, which change with each trouble.
        """
        if self.current is None or self.phase is Phase.REMOVING:
            return None
        return Slot(
            slot=self.slot,
            target=committed(self.current, self.target.times[-1:] if self.phase is Phase.COMMITTED else ()),
            current=self.current,
            previous=self.previous,
        )

    @property
    def serving(self) -> Placed | None:
        """Who has the traffic."""
        return self.candidate if self.phase is Phase.PROBATION else self.current


def committed(current: Placed, times: tuple[tuple[str, float], ...]) -> Target:
    """The target of a slot that has what it was ordered."""
    return Target(
        wanted=current.wanted,
        routing=current.routing,
        secrets=current.secrets,
        phase=Phase.COMMITTED,
        times=times,
        chosen=current.chosen,
    )


def reason(error: BaseException) -> Reason:
    """An error as the report carries it: code and sentence."""
    if isinstance(error, EdgefleetError):
        return Reason(error.code, printable(str(error), 2000))
    return Reason("bug", printable(f"{type(error).__name__}: {error}", 2000))
