"""A target in the cloud without machines: its versions are as ready as a test says, and clients ask as it says.

The gateway's own code deals the requests out and counts them, so what a rollout is told is what a real one would say.
"""

import msgspec
from sqlalchemy import insert, select

from agent.gateway.counts import Tally
from agent.gateway.shares import Shares
from fleet.rollouts import shares_start
from fleet.rollouts.shares_start import ShiftWish
from fleet.target_tables import endpoints, targets
from fleet.targets.attached import Line
from fleet.targets.contract import Life, Standing, VersionStands
from fleet.targets.duty import Bringing, Found
from fleet.targets.endpoints import Endpoints, VersionWish
from fleet.targets.host_certificates import HostCertificates
from fleet.targets.secrets import made
from fleet.targets.settings import Settings
from modules.counted import Counted, Looked
from modules.errors import NotReady
from modules.latencies import bin_of
from modules.names import Slug
from modules.protocol.routing import Version

NAME = "digits"


class Behaviour(msgspec.Struct):
    """How a version answers: every n-th request with an error, after so long; how often it has been started again."""

    error_every: int = 0
    latency_s: float = 0.01
    ready: bool = True
    wrong: str = ""
    restarts: int = 0
    memory_mb: float = 100.0
    nan: int = 0


class Target:
    """``fleet/targets/contract.py`` says what its methods do; here they take no time."""

    def __init__(self, clock):
        self.clock, self.wanted, self.behaviours = clock, None, {}
        self.answers, self.why, self.in_use, self.counts, self.uncounted = True, "", True, True, ""
        self.begin_anew()

    def begin_anew(self):
        """The gateway is started again: it counts from nothing."""
        self.tallies, self.answered, self.born = {}, {}, self.clock()

    def of(self, version):
        return self.behaviours.setdefault(version, Behaviour())

    def bring(self, wanted):
        if not self.answers:
            raise NotReady("the engine does not answer", element="lab")
        self.wanted = wanted
        versions = {one.name: self._stands(one) for one in wanted.versions}
        whole = all(one.ready == one.wanted for one in versions.values())
        state = "ready" if whole and self.in_use else "updating"
        return Standing(state=state, why=self.why, url="http://lab:1", versions=versions, in_use=self.in_use,
                        uncounted=self.uncounted)  # fmt: skip

    def ask(self, count):
        """So many clients ask, and are dealt out by the weights in force; who was asked how often."""
        weights = tuple(Version(name=one.name, weight=one.weight) for one in self.wanted.versions)
        dealt, shares = {}, Shares()
        for _ in range(count):
            name = shares.draw(weights)
            dealt[name] = dealt.get(name, 0) + 1
            self._count(name)
        return dealt

    def _count(self, name):
        tally, how = self.tallies.setdefault(name, Tally()), self.of(name)
        tally.requests += 1
        tally.latencies[bin_of(how.latency_s)] += 1
        if how.error_every and tally.requests % how.error_every == 0:
            tally.errors += 1
        looked = self.answered.setdefault(name, [0, 0])
        looked[0] += 1
        looked[1] += how.nan

    def _stands(self, one):
        how, tally = self.of(one.name), self.tallies.get(one.name)
        looked = self.answered.get(one.name, (0, 0))
        counted = tally.shown() | {"seconds": self.clock() - self.born} if tally else {}
        seen = msgspec.convert(counted, Counted)
        life = Life(
            seen=seen if self.counts else None,
            answers=Looked(looked=looked[0], nan=looked[1]),
            restarts=how.restarts,
        )
        return VersionStands(
            module=str(one.module.manifest.ref),
            weight=one.weight,
            wanted=one.replicas,
            ready=one.replicas if how.ready else 0,
            provider="CPUExecutionProvider",
            wrong=how.wrong,
            lives={f"replica-of-{one.name}": life} if self.counts or how.ready else {},
            memory_mb=how.memory_mb,
        )


class Cloud:
    """A small fleet with an endpoint of its first module, brought about by the server's own duty, a look at a time."""

    def __init__(self, fleet, folder, authority, sealer):
        self.fleet, self.database, self.target = fleet, fleet.database, Target(fleet.clock)
        self.wished = Endpoints(fleet.registry, sealer, HostCertificates(authority))
        self.line = Line("", self.target)
        self.duty = Bringing(
            database=fleet.database, clock=fleet.clock, wished=self.wished, attached=None, mishaps=fleet.mishaps
        )
        self.old, self.new = fleet.add_module(NAME), fleet.add_module(NAME)
        row = {"name": "lab", "kind": "container", "attached": '{"docker": "unix:///nonexistent.sock"}', "created": 0.0}
        with self.database.write() as connection:
            connection.execute(insert(targets).values(**row))
            self.wished.create(
                connection, fleet.now, NAME, "lab", {Slug("v1"): VersionWish(self.old, 0, 2)}, None, Settings(),
                made(primary="", secondary="", certificate_key=""), by="anna",
            )  # fmt: skip
        self.look()

    def start(self, module=None, **wish):
        """Start a rollout of the second module; its number."""
        with self.database.write() as connection:
            given = ShiftWish(module=module or self.new, endpoint=NAME, **wish)
            rollout = shares_start.start(connection, self.fleet.now, self.fleet.registry, given)
        self.fleet.tick()
        return rollout

    def wish(self, *, weight=0, replicas=2):
        """The first module as a version."""
        return VersionWish(self.old, weight, replicas)

    def change(self, versions, default=None):
        """As ``edgefleet endpoints split`` does."""
        with self.database.write() as connection:
            self.wished.change(
                connection, self.fleet.now, NAME, versions, default, None, None, generation=None, by="anna"
            )

    def row(self):
        with self.database.read() as connection:
            return connection.execute(select(endpoints).where(endpoints.c.name == NAME)).one_or_none()

    def weights(self):
        """What the target is to give each version, the default first."""
        return {one.name: one.weight for one in self.target.wanted.versions}

    def look(self):
        """One look of the duty at the target, and what the engine makes of it."""
        row = self.row()
        if row is None:
            return
        found = Found(row, self.line, revoked=[], guests=[], newest=0, measured=True)
        self.duty._note(found, *self.duty._brought(found))
        self.fleet.tick()

    def pass_by(self, seconds, requests=0):
        """Time goes by while clients ask, and the duty looks; how many were dealt to each version."""
        dealt = self.target.ask(requests)
        self.fleet.now += seconds
        self.fleet.tick()
        self.look()
        return dealt

    def settle(self, looks=6):
        """The duty looks until nothing changes any more; no time goes by."""
        for _ in range(looks):
            self.look()

    def shares(self, rollout):
        """Where each share stands, by its percent."""
        return {one["percent"]: one["standing"] for one in self.fleet.view(rollout)["shares"]}
